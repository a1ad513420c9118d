import { chmodSync, chownSync, copyFileSync, mkdirSync, opendirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Client } from 'pg'
import { testkitName } from '../database/admin.ts'
import type { UnprivilegedUser } from '../process/unprivileged-user.ts'

/** What a base backup leaves out, though its directory must be there (manual, "Making a Base Backup"). */
const contentsLeftOut = new Set([
  'pg_wal',
  'pg_replslot',
  'pg_dynshmem',
  'pg_notify',
  'pg_serial',
  'pg_snapshots',
  'pg_stat_tmp',
  'pg_subtrans',
])
const filesLeftOut = new Set(['postmaster.pid', 'postmaster.opts'])

const own = (path: string, user: UnprivilegedUser | null): void => {
  if (user) chownSync(path, user.uid, user.gid)
}

const copyTree = (from: string, to: string, user: UnprivilegedUser | null, withContents: boolean): void => {
  mkdirSync(to, { mode: 0o700 })
  own(to, user)
  const directory = opendirSync(from)
  for (let entry = directory.readSync(); entry !== null; entry = directory.readSync()) {
    const [source, copy] = [join(from, entry.name), join(to, entry.name)]
    if (entry.isDirectory()) copyTree(source, copy, user, withContents && !contentsLeftOut.has(entry.name))
    else if (withContents && !filesLeftOut.has(entry.name)) {
      try {
        copyFileSync(source, copy)
        own(copy, user)
      } catch (error) {
        // The server drops files while it is copied; replay puts right what that leaves.
        if (!(error instanceof Error && 'code' in error && error.code === 'ENOENT')) throw error
      }
    }
  }
  directory.closeSync()
}

export interface CopyOptions {
  readonly primary: { readonly url: string; readonly directory: string }
  readonly directory: string
  readonly user: UnprivilegedUser | null
}

/**
 * Makes a data directory that starts as a hot standby of a running server on this machine, with the server's own
 * low-level backup functions: embedded binaries come without `pg_basebackup`.
 */
export const copyAsStandby = async ({ primary, directory, user }: CopyOptions): Promise<string> => {
  const data = join(directory, 'data')
  const client = new Client({ connectionString: primary.url, application_name: testkitName })
  await client.connect()
  try {
    // One session from start to stop: a backup ends with the session that began it.
    await client.query(`SELECT pg_backup_start('standby', true)`)
    copyTree(join(primary.directory, 'data'), data, user, true)
    const { rows } = await client.query<{ labelfile: string }>('SELECT labelfile FROM pg_backup_stop(false)')
    writeFileSync(join(data, 'backup_label'), rows[0]?.labelfile ?? '')
  } finally {
    await client.end()
  }
  const { hostname, port, username, password } = new URL(primary.url)
  writeFileSync(join(data, 'standby.signal'), '')
  writeFileSync(
    join(data, 'postgresql.auto.conf'),
    `primary_conninfo = 'host=${hostname} port=${port} user=${username} password=${password}'\n`,
  )
  for (const name of ['backup_label', 'standby.signal', 'postgresql.auto.conf']) own(join(data, name), user)
  chmodSync(data, 0o700)
  return data
}
