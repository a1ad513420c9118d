import { spawnSync } from 'node:child_process'
import {
  chmodSync,
  chownSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { UnprivilegedUser } from './unprivileged-user.ts'

const prefix = 'coordination-'
const ownerFile = 'keeper.pid'

/** A directory of our own in the system's temporary directory, through which the server's user may pass. */
export const makeServerDirectory = (user: UnprivilegedUser | null): string => {
  const directory = mkdtempSync(join(tmpdir(), `${prefix}postgres-`))
  // mkdtemp makes it 0700: as root, initdb of another user would say "could not access directory".
  chmodSync(directory, user ? 0o711 : 0o700)
  ownDirectory(directory, process.pid)
  return directory
}

/** Notes whose end allows anybody to remove a directory. */
export const ownDirectory = (directory: string, pid: number): void =>
  writeFileSync(join(directory, ownerFile), String(pid))

/** A killed process stays in the table until its parent asks for it, and where nobody does (containers) for ever. */
const isZombie = (pid: number): boolean => {
  try {
    return readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ').at(-1)?.startsWith('Z') ?? false
  } catch {
    return false
  }
}

const isAlive = (pid: number): boolean => {
  try {
    process.kill(pid, 0)
    return !isZombie(pid)
  } catch (error) {
    return error instanceof Error && 'code' in error && error.code === 'EPERM'
  }
}

/**
 * Removes what a keeper left that was itself killed: the one end that no watchdog sees. Only directories of our own
 * user whose keeper is gone.
 */
export const sweepAbandonedDirectories = (): void => {
  for (const name of readdirSync(tmpdir()).filter((entry) => entry.startsWith(prefix))) {
    const directory = join(tmpdir(), name)
    try {
      if (statSync(directory).uid !== process.getuid?.()) continue
      const keeper = Number(readFileSync(join(directory, ownerFile), 'utf8'))
      if (keeper > 0 && isAlive(keeper)) continue
      rmSync(directory, { recursive: true, force: true, maxRetries: 3 })
    } catch {
      // Another process sweeps too, or is just making this directory.
    }
  }
}

const runs = (root: string, user: UnprivilegedUser | null): boolean =>
  spawnSync(join(root, 'bin', 'postgres'), ['--version'], {
    cwd: '/',
    ...(user ? { uid: user.uid, gid: user.gid } : {}),
  }).status === 0

/**
 * Binaries that the server's user can execute: those of node_modules, or a copy when the repository lies where that
 * user may not go (root's home directory, for instance).
 */
export const reachableBinaries = (root: string, directory: string, user: UnprivilegedUser | null): string => {
  if (runs(root, user)) return root
  const copy = join(directory, 'native')
  cpSync(root, copy, { recursive: true, verbatimSymlinks: true, filter: (source) => !source.endsWith('.a') })
  if (runs(copy, user)) return copy
  throw new Error(`the PostgreSQL binaries in ${root} cannot be executed${user ? ` by the user ${user.name}` : ''}`)
}

export interface InitOptions {
  readonly root: string
  readonly directory: string
  readonly user: UnprivilegedUser | null
  readonly superuser: string
  readonly password: string
}

/** Runs initdb; returns the data directory. */
export const initDataDirectory = ({ root, directory, user, superuser, password }: InitOptions): string => {
  const data = join(directory, 'data')
  const passwordFile = join(directory, 'password')
  mkdirSync(data, { mode: 0o700 })
  writeFileSync(passwordFile, password, { mode: 0o600 })
  if (user) {
    chownSync(data, user.uid, user.gid)
    chownSync(passwordFile, user.uid, user.gid)
  }
  const { status, stdout, stderr, error } = spawnSync(
    join(root, 'bin', 'initdb'),
    [
      ...['-D', data, '-U', superuser, '--pwfile', passwordFile, '--auth', 'scram-sha-256'],
      ...['--encoding', 'UTF8', '--locale', 'C', '--no-sync', '--no-instructions'],
    ],
    {
      cwd: directory,
      encoding: 'utf8',
      env: { PATH: process.env.PATH, LC_ALL: 'C' },
      ...(user ? { uid: user.uid, gid: user.gid } : {}),
    },
  )
  rmSync(passwordFile)
  if (status !== 0) throw new Error(`initdb failed: ${error?.message ?? `${stdout}\n${stderr}`}`)
  return data
}
