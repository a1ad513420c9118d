import { fork } from 'node:child_process'
import { once } from 'node:events'
import { chownSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { eventually, Hopeless } from '../faults/eventually.ts'
import { freePort, PortTakenError } from './free-port.ts'
import { type GuardRequest, guardReply } from './guard-protocol.ts'
import { makeTemporaryDirectory, ownDirectory } from './temporary-directory.ts'
import { unprivilegedUser } from './unprivileged-user.ts'

export interface ProgramOptions {
  readonly program: string
  /** Files to write into the program's directory before it starts, by name. */
  readonly files: (port: number) => Readonly<Record<string, string>>
  readonly args: (port: number, directory: string) => readonly string[]
  /** What it prints when it takes connections. That the port answers says less: it may be somebody else who does. */
  readonly ready: RegExp
  /** @default one that nobody uses now */
  readonly choosePort?: (() => Promise<number>) | undefined
}

export interface GuardedProgram extends AsyncDisposable {
  readonly port: number
  readonly pid: number
  /** Everything it printed. */
  log(): string
  /** Idempotent. */
  stop(): Promise<void>
}

const guardFile = fileURLToPath(new URL('./guard.ts', import.meta.url))

/**
 * Starts a server program on a free loopback port, in a temporary directory, as an unprivileged user. It ends, and its
 * directory is removed, when this process ends for any reason. Resolves when it accepts connections.
 */
export const startProgram = async (options: ProgramOptions): Promise<GuardedProgram> => {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await startOn(await (options.choosePort ?? freePort)(), options)
    } catch (error) {
      if (!(error instanceof PortTakenError) || attempt === 5) throw error
    }
  }
}

const startOn = async (port: number, options: ProgramOptions): Promise<GuardedProgram> => {
  const { program, files, args, ready } = options
  const user = unprivilegedUser()
  const directory = makeTemporaryDirectory('program', null)
  const logFile = join(directory, 'log')
  const written = Object.entries(files(port)).map(([name, content]) => {
    const path = join(directory, name)
    writeFileSync(path, content, { mode: 0o600 })
    return path
  })
  for (const path of user ? [directory, ...written] : []) chownSync(path, user?.uid ?? 0, user?.gid ?? 0)
  const guard = fork(guardFile, [], {
    detached: true,
    execArgv: ['--disable-warning=ExperimentalWarning'],
    stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
  })
  ownDirectory(directory, guard.pid ?? 0)
  const request: GuardRequest = {
    ...{ directory, program, logFile, args: [...args(port, directory)] },
    user: user ? { uid: user.uid, gid: user.gid } : null,
  }
  guard.send(request)
  let ended: string | null = null
  let pid = 0
  guard.on('message', (message) => {
    const reply = guardReply.parse(message)
    if ('ended' in reply) ended = reply.ended
    else pid = reply.pid
  })
  guard.once('exit', () => {
    ended ??= 'its guard ended'
  })
  const log = (): string => readFileSync(logFile, 'utf8')
  await eventually(
    () => {
      if (ended !== null) throw new Hopeless(`${program} ended (${ended}); it printed:\n${log()}`)
      return pid > 0 && ready.test(log())
    },
    { deadlineMs: 60_000, what: `${program} to accept connections` },
  ).catch((error: Error) => {
    guard.kill('SIGTERM')
    throw /address already in use/i.test(error.message) ? new PortTakenError(error.message) : error
  })
  guard.unref()
  guard.channel?.unref()
  const stop = async (): Promise<void> => {
    if (guard.exitCode !== null || guard.signalCode !== null) return
    guard.ref()
    const exited = once(guard, 'exit')
    guard.kill('SIGTERM')
    await exited
  }
  return { port, pid, log, stop, [Symbol.asyncDispose]: stop }
}
