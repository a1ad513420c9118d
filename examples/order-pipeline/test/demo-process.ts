import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { chmod, mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { eventually, Hopeless } from '@x/testkit'

const main = fileURLToPath(new URL('../src/main.ts', import.meta.url))

/** The demo as a user starts it, in a temporary directory of its own. */
export interface DemoProcess extends AsyncDisposable {
  readonly pid: number
  output(): string
  /** Resolves when the output has this. */
  says(text: string | RegExp, deadlineMs?: number): Promise<void>
  signal(signal: NodeJS.Signals): void
  readonly ended: Promise<{ code: number | null; signal: NodeJS.Signals | null }>
  /** Every process that it started and that is there now, however deep: replicas, PostgreSQL and its backends. */
  descendants(): readonly number[]
  /** What lies in its temporary directory. */
  leftFiles(): Promise<readonly string[]>
}

const parents = (): readonly (readonly [pid: number, parent: number])[] => {
  if (existsSync('/proc/self/stat')) {
    return readdirSync('/proc')
      .filter((name) => /^\d+$/.test(name))
      .flatMap((pid) => {
        try {
          // "pid (name) state ppid": the name may hold anything, so count from the last parenthesis.
          const fields = readFileSync(`/proc/${pid}/stat`, 'utf8')
          return [[Number(pid), Number(fields.slice(fields.lastIndexOf(')') + 2).split(' ')[1])] as const]
        } catch {
          return [] // it ended while we looked
        }
      })
  }
  const lines = execFileSync('ps', ['-A', '-o', 'pid=,ppid='], { encoding: 'utf8' }).trim().split('\n')
  return lines.map((line) => {
    const [pid, parent] = line.trim().split(/\s+/).map(Number)
    return [pid ?? 0, parent ?? 0] as const
  })
}

const descendantsOf = (root: number): readonly number[] => {
  const all = parents()
  const found = [root]
  for (const ancestor of found) found.push(...all.filter(([, parent]) => parent === ancestor).map(([pid]) => pid))
  return found.slice(1)
}

/** A zombie has ended; only its parent has not asked yet. */
export const isAlive = (pid: number): boolean => {
  try {
    process.kill(pid, 0)
  } catch (error) {
    return error instanceof Error && 'code' in error && error.code === 'EPERM'
  }
  if (!existsSync('/proc/self/stat')) return true
  try {
    const fields = readFileSync(`/proc/${pid}/stat`, 'utf8')
    return fields.slice(fields.lastIndexOf(')') + 2)[0] !== 'Z'
  } catch {
    return false
  }
}

export interface StartDemoOptions {
  /** Puts a shell between, as npm does; `pid` and `signal` are then those of the shell. */
  readonly throughShell?: boolean
}

export const startDemo = async (args: readonly string[], options: StartDemoOptions = {}): Promise<DemoProcess> => {
  const directory = await mkdtemp(join(tmpdir(), 'demo-test-'))
  await chmod(directory, 0o755) // the server may run as another user, who has to pass here
  const words = [process.execPath, main, ...args]
  const [command = '', ...rest] = options.throughShell ? ['/bin/sh', '-c', '"$@"; exit $?', 'sh', ...words] : words
  const child: ChildProcess = spawn(command, rest, {
    // Colours are decided by the environment, which a CI sets to have them; the tests read words.
    env: { ...process.env, DATABASE_URL: '', TMPDIR: directory, NO_COLOR: '1', FORCE_COLOR: undefined },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let output = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream?.on('data', (chunk) => {
      output += String(chunk)
    })
  }
  const ended = once(child, 'close').then(() => ({ code: child.exitCode, signal: child.signalCode }))
  const { pid } = child
  if (pid === undefined) throw new Error('expected a process, got none')
  return {
    pid,
    output: () => output,
    async says(text, deadlineMs = 120_000) {
      await eventually(
        () => {
          if (output.match(text)) return true
          if (child.exitCode !== null || child.signalCode !== null) throw new Hopeless(`the demo ended:\n${output}`)
          return false
        },
        { deadlineMs, what: `the demo to say ${text}` },
      )
    },
    signal: (signal) => void child.kill(signal),
    ended,
    descendants: () => descendantsOf(pid),
    leftFiles: () => readdir(directory),
    async [Symbol.asyncDispose]() {
      child.kill('SIGTERM')
      await ended
      await rm(directory, { recursive: true, force: true })
    },
  }
}
