import { fork } from 'node:child_process'
import { once } from 'node:events'
import { chownSync, readFileSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { eventually, Hopeless } from '../faults/eventually.ts'
import { freePort } from './free-port.ts'
import { type GuardRequest, guardReply } from './guard-protocol.ts'
import { makeTemporaryDirectory, ownDirectory } from './temporary-directory.ts'
import { unprivilegedUser } from './unprivileged-user.ts'

export interface ProgramOptions {
  readonly program: string
  /** Files to write into the program's directory before it starts, by name. */
  readonly files: (port: number) => Readonly<Record<string, string>>
  readonly args: (port: number, directory: string) => readonly string[]
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

const accepts = (port: number): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = connect({ port, host: '127.0.0.1' })
    const settle = (answer: boolean): void => {
      socket.destroy()
      resolve(answer)
    }
    socket.once('connect', () => settle(true))
    socket.once('error', () => settle(false))
  })

/**
 * Starts a server program on a free loopback port, in a temporary directory, as an unprivileged user. It ends, and its
 * directory is removed, when this process ends for any reason. Resolves when it accepts connections.
 */
export const startProgram = async ({ program, files, args }: ProgramOptions): Promise<GuardedProgram> => {
  const user = unprivilegedUser()
  const directory = makeTemporaryDirectory('program', null)
  const port = await freePort()
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
    async () => {
      if (ended !== null) throw new Hopeless(`${program} ended (${ended}); it printed:\n${log()}`)
      return pid > 0 && (await accepts(port))
    },
    { deadlineMs: 60_000, what: `${program} to accept connections` },
  ).catch((error: unknown) => {
    guard.kill('SIGTERM')
    throw error
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
