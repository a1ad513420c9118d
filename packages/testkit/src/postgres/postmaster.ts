import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { openSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { PortTakenError } from '../process/free-port.ts'
import type { UnprivilegedUser } from '../process/unprivileged-user.ts'
import { type ServerSettings, settingArguments } from './settings.ts'

/** How a server is stopped: `fast` rolls back and checkpoints, `immediate` is a crash without the crash. */
export type StopMode = 'fast' | 'immediate'

export interface PostmasterOptions {
  /** Directory with `bin/postgres`. */
  readonly root: string
  readonly dataDirectory: string
  readonly logFile: string
  readonly port: number
  readonly settings: ServerSettings
  readonly user: UnprivilegedUser | null
  /** Words put before the command, such as `setpriv --pdeathsig QUIT`. */
  readonly wrapper: readonly string[]
}

/** Line 8 of postmaster.pid says `ready` when connections are accepted; this is what `pg_ctl -w` waits for too. */
const isReady = (dataDirectory: string, pid: number): boolean => {
  try {
    const lines = readFileSync(join(dataDirectory, 'postmaster.pid'), 'utf8').split('\n')
    return Number(lines[0]) === pid && lines[7]?.trim() === 'ready'
  } catch {
    return false
  }
}

const hasEnded = (child: ChildProcess): boolean => child.exitCode !== null || child.signalCode !== null

/** Direct children of a process, where the system tells (Linux). Backends leave our process group, so no group kill. */
const childrenOf = (pid: number): number[] => {
  try {
    return readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(/\s+/).filter(Boolean).map(Number)
  } catch {
    return []
  }
}

/** Starts the server process and resolves when it accepts connections. */
export const startPostmaster = async (options: PostmasterOptions, deadlineMs = 60_000): Promise<ChildProcess> => {
  const { root, dataDirectory, logFile, port, settings, user, wrapper } = options
  const log = openSync(logFile, 'a')
  const words = [
    ...wrapper,
    join(root, 'bin', 'postgres'),
    '-D',
    dataDirectory,
    '-p',
    String(port),
    ...settingArguments(settings),
  ]
  const [command = '', ...args] = words
  const child = spawn(command, args, {
    cwd: dataDirectory,
    stdio: ['ignore', log, log],
    env: { PATH: process.env.PATH, LC_ALL: 'C', TZ: 'UTC' },
    ...(user ? { uid: user.uid, gid: user.gid } : {}),
  })
  await once(child, 'spawn')
  const giveUpAt = performance.now() + deadlineMs
  while (!isReady(dataDirectory, child.pid ?? 0)) {
    if (hasEnded(child) || performance.now() > giveUpAt) {
      const tail = readFileSync(logFile, 'utf8').split('\n').slice(-15).join('\n')
      await stopPostmaster(child, 'immediate')
      if (tail.includes('could not bind')) throw new PortTakenError(tail)
      throw new Error(`PostgreSQL did not start. The end of its log:\n${tail}`)
    }
    await delay(10)
  }
  return child
}

/**
 * Stops the server and all its backends; one that does not end in time (a stopped backend, say) is killed. An orderly stop
 * writes a checkpoint, which a busy machine may take long for: cut short, it would be a crash.
 */
export const stopPostmaster = async (
  child: ChildProcess,
  mode: StopMode,
  patienceMs: number = mode === 'fast' ? 20_000 : 3_000,
): Promise<void> => {
  if (hasEnded(child)) return
  const ended = once(child, 'exit')
  child.kill(mode === 'fast' ? 'SIGINT' : 'SIGQUIT')
  const patience = new AbortController()
  const expired = delay(patienceMs, 'expired', { signal: patience.signal }).catch(() => 'ended')
  if ((await Promise.race([ended, expired])) === 'expired') {
    for (const pid of [...childrenOf(child.pid ?? 0), child.pid ?? 0]) {
      try {
        process.kill(pid, 'SIGKILL')
      } catch {
        // It ended by itself meanwhile.
      }
    }
    await ended
  }
  patience.abort()
}
