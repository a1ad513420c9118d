import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import type { ZodType } from 'zod'
import { eventually, Hopeless } from '../faults/eventually.ts'
import { deathSignalWrapper } from './death-signal.ts'
import { parseLine } from './line-messages.ts'

export interface SpawnNodeOptions<M> {
  /** What the child says with `tell()`; a line that does not parse fails the next wait. */
  readonly messages: ZodType<M>
  readonly args?: readonly string[] | undefined
  readonly env?: Readonly<Record<string, string>> | undefined
  /** Called for each message as it arrives. */
  readonly onMessage?: ((message: M) => void) | undefined
}

export interface Exit {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
}

/** A Node.js process of a test. It ends when the test ends it, or with this process, SIGKILL included. */
export interface TestProcess<M> extends AsyncDisposable {
  readonly pid: number
  /** Everything it told so far. */
  readonly messages: readonly M[]
  readonly exited: Promise<Exit>
  readonly isRunning: boolean
  /** Its ordinary output and errors so far. */
  output(): string
  /** The first message that fits, among those told already or later. */
  message(fits: (message: M) => boolean, deadlineMs?: number): Promise<M>
  /** A line of JSON to its standard input. */
  send(command: object): void
  /** Sends a signal and resolves when the process is gone. @default 'SIGKILL' */
  kill(signal?: NodeJS.Signals): Promise<Exit>
  /** SIGSTOP: it stands still, its sockets stay open. */
  pause(): void
  /** SIGCONT. */
  resume(): void
}

const lifeline = fileURLToPath(new URL('./lifeline.ts', import.meta.url))
const running = new Set<ChildProcess>()
let wrapper: readonly string[] | null = null

process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL')
})

/** Processes that `spawnNode` started here and that have not ended. */
export const runningProcesses = (): readonly number[] =>
  [...running].flatMap(({ pid }) => (pid === undefined ? [] : [pid]))

/**
 * Starts a TypeScript file in a process of its own.
 *
 * @example
 * await using child = await spawnNode(new URL('./holder.ts', import.meta.url), { messages: z.object({ held: z.boolean() }) })
 * await child.message(({ held }) => held)
 * child.pause()
 */
export const spawnNode = async <M>(file: URL, options: SpawnNodeOptions<M>): Promise<TestProcess<M>> => {
  wrapper ??= deathSignalWrapper('KILL')
  const words = [
    ...wrapper,
    process.execPath,
    '--disable-warning=ExperimentalWarning',
    ...['--import', lifeline],
    fileURLToPath(file),
    ...(options.args ?? []),
  ]
  const [command = '', ...args] = words
  const child = spawn(command, args, {
    stdio: ['pipe', 'pipe', 'pipe', 'pipe'],
    env: { ...process.env, NODE_OPTIONS: '', ...options.env },
  })
  await once(child, 'spawn')
  running.add(child)
  const { stdin, stdout, stderr, pid } = child
  if (pid === undefined) throw new Error('expected a pid of a process that was spawned')

  const messages: M[] = []
  const output: string[] = []
  let broken: unknown = null
  createInterface({ input: stdout }).on('line', (line) => {
    try {
      const message = parseLine(line, options.messages)
      if (message === null) output.push(line)
      else {
        messages.push(message)
        options.onMessage?.(message)
      }
    } catch (error) {
      broken ??= error
    }
  })
  createInterface({ input: stderr }).on('line', (line) => output.push(line))
  stdin.on('error', () => {})

  const exited = new Promise<Exit>((resolve) => {
    // 'close' and not 'exit': by then everything that it told was read.
    child.once('close', (code, signal) => {
      running.delete(child)
      resolve({ code, signal })
    })
  })
  const isRunning = (): boolean => running.has(child)
  const kill = async (signal: NodeJS.Signals = 'SIGKILL'): Promise<Exit> => {
    if (isRunning()) child.kill(signal)
    return exited
  }
  const message = async (fits: (message: M) => boolean, deadlineMs = 60_000): Promise<M> => {
    const { found } = await eventually(
      () => {
        if (broken !== null) throw new Hopeless(`process ${pid} told something unexpected`, { cause: broken })
        const [first] = messages.filter(fits)
        if (first !== undefined) return { found: first }
        if (!isRunning()) throw new Hopeless(`the process ended; its output:\n${output.join('\n')}`)
        return null
      },
      { deadlineMs, what: `a message of process ${pid}` },
    )
    return found
  }
  return {
    pid,
    messages,
    exited,
    get isRunning() {
      return isRunning()
    },
    output: () => output.join('\n'),
    message,
    send: (value) => void stdin.write(`${JSON.stringify(value)}\n`),
    kill,
    pause: () => void child.kill('SIGSTOP'),
    resume: () => void child.kill('SIGCONT'),
    [Symbol.asyncDispose]: async () => void (await kill()),
  }
}
