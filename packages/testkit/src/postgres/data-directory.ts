import { spawnSync } from 'node:child_process'
import { chownSync, cpSync, mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { UnprivilegedUser } from '../process/unprivileged-user.ts'

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
