import { spawnSync } from 'node:child_process'
import { cpus } from 'node:os'
import { startPostgres } from '@x/testkit'
import { Client } from 'pg'

/** Where a benchmark runs: a durable server of its own, pinned away from the client where the system can do that. */
export interface Surroundings extends AsyncDisposable {
  readonly url: string
  readonly facts: Readonly<Record<string, string>>
}

export const createSurroundings = async (settings: Readonly<Record<string, string>> = {}): Promise<Surroundings> => {
  const server = await startPostgres({ durable: true, settings: { max_connections: '300', ...settings } })
  const client = new Client({ connectionString: server.url })
  await client.connect()
  try {
    const { rows } = await client.query<{ version: string; fsync: string; commit: string; postmaster: string | null }>(
      `SELECT current_setting('server_version') AS version, current_setting('fsync') AS fsync,
              current_setting('synchronous_commit') AS commit,
              split_part(pg_read_file('postmaster.pid', 0, 64, true), E'\\n', 1) AS postmaster`,
    )
    const facts = rows[0]
    return {
      url: server.url,
      facts: {
        commit: spawnSync('git', ['rev-parse', '--short', 'HEAD'], { encoding: 'utf8' }).stdout.trim() || 'unknown',
        node: process.version,
        postgres: facts?.version ?? 'unknown',
        cores: `${cpus().length}`,
        pinning: pin(facts?.postmaster ?? null),
        fsync: facts?.fsync ?? 'unknown',
        synchronous_commit: facts?.commit ?? 'unknown',
        transport: 'TCP on loopback',
      },
      [Symbol.asyncDispose]: () => server.stop(),
    }
  } finally {
    await client.end()
  }
}

/**
 * Server on the first core, client on the second: a round trip within one core takes a third of one between two, and the
 * scheduler changes its mind between rounds. Backends started later inherit the postmaster's core.
 */
const pin = (postmaster: string | null): string => {
  if (cpus().length < 2) return 'none: one core'
  if (postmaster === null) return 'none: the server runs elsewhere'
  const server = pinToServerCore(postmaster)
  const client = spawnSync('taskset', ['-apc', '1', `${process.pid}`])
  return server && client.status === 0 ? 'server on core 0, client on core 1' : 'none: taskset failed'
}

/** Puts another server beside Postgres. Without it a server that we start inherits the core of the client. */
export const pinToServerCore = (pid: string): boolean => spawnSync('taskset', ['-apc', '0', pid]).status === 0
