import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { UnprivilegedUser } from './unprivileged-user.ts'

const prefix = 'coordination-'
const ownerFile = 'keeper.pid'

/** A directory of our own in the system's temporary directory, through which the program's user may pass. */
export const makeTemporaryDirectory = (kind: string, user: UnprivilegedUser | null): string => {
  const directory = mkdtempSync(join(tmpdir(), `${prefix}${kind}-`))
  // mkdtemp makes it 0700: as root, initdb of another user would say "could not access directory".
  chmodSync(directory, user ? 0o711 : 0o700)
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
