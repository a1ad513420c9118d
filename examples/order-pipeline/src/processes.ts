import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { type ChildMessage, childMessage } from './messages.ts'

/** How a child ended: asked to, killed by the demo, or in a way that nobody wanted. */
export type Ending = 'asked' | 'killed' | 'unexpected'

export interface Child {
  readonly name: string
  readonly pid: number
  readonly isStopped: boolean
  readonly ended: Promise<Ending>
  /** Asks it to end in good order; kills it when that takes longer than `patienceMs`. */
  stop(patienceMs?: number): Promise<void>
  /** SIGKILL: no handler runs, no connection is closed by the program. */
  kill(): Promise<void>
  /** SIGSTOP and SIGCONT: alive, but it does not run. */
  freeze(): void
  thaw(): void
}

export interface ProcessEvents {
  message(child: Child, message: ChildMessage): void
  /** A line that a child printed. */
  line(child: Child, line: string): void
  ended(child: Child, ending: Ending): void
}

export interface Processes extends AsyncDisposable {
  readonly children: ReadonlySet<Child>
  /** Starts `program` (a file beside this one) as an operating-system process of its own. */
  start(name: string, program: './node.ts' | './indexer.ts' | './load.ts', settings: object): Child
}

/** How long a child may take to end when the run is over or given up. */
const hurriedMs = 2_000

const forkProgram = (program: string, settings: object): ChildProcess =>
  fork(fileURLToPath(new URL(program, import.meta.url)), [JSON.stringify(settings)], {
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    serialization: 'advanced', // epochs are bigint
  })

/** Child processes that do not outlive this one, however it ends. */
export const createProcesses = (database: { server: string; database: string }, events: ProcessEvents): Processes => {
  const guard = forkProgram('./guard.ts', database)
  const children = new Set<Child>()

  const start: Processes['start'] = (name, program, settings) => {
    const process = forkProgram(program, settings)
    const { pid } = process
    if (pid === undefined) throw new Error(`${name}: the operating system started no process for ${program}.`)
    guard.send({ pid, alive: true })
    let expected: Ending = 'unexpected'
    let isStopped = false
    const ended = once(process, 'exit').then(() => expected)
    const child: Child = {
      name,
      pid,
      get isStopped() {
        return isStopped
      },
      ended,
      async stop(patienceMs = 5_000) {
        if (expected === 'unexpected') expected = 'asked'
        child.thaw()
        if (process.connected) process.send('stop', () => {})
        const late = delay(patienceMs, 'late', { ref: false })
        if ((await Promise.race([ended, late])) === 'late') {
          events.line(child, `did not end within ${patienceMs} ms of being asked to; killed`)
          await child.kill()
        }
      },
      async kill() {
        expected = 'killed'
        process.kill('SIGKILL')
        await ended
      },
      freeze() {
        isStopped = process.kill('SIGSTOP')
      },
      thaw() {
        if (isStopped) process.kill('SIGCONT')
        isStopped = false
      },
    }
    children.add(child)
    process.on('message', (message) => events.message(child, childMessage.parse(message)))
    for (const stream of [process.stdout, process.stderr]) {
      if (stream) createInterface({ input: stream }).on('line', (line) => events.line(child, line))
    }
    void ended.then((ending) => {
      children.delete(child)
      if (guard.connected) guard.send({ pid, alive: false })
      events.ended(child, ending)
    })
    return child
  }

  return {
    children,
    start,
    async [Symbol.asyncDispose]() {
      await Promise.all([...children].map((child) => child.stop(hurriedMs)))
      guard.kill('SIGKILL')
      await once(guard, 'exit')
    },
  }
}
