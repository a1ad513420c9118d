import { createHash } from 'node:crypto'
import { type Client, escapeIdentifier, Pool } from 'pg'
import { testkitName, withAdmin, withDatabase } from './admin.ts'

/** What every clone starts with. Made once a run, whichever file asks first. */
export interface DatabaseTemplate {
  /** Two templates of one name must be the same. */
  readonly name: string
  /** Fills the empty database: migrations, tables of the test. */
  prepare(pool: Pool): Promise<void>
}

/** Databases of one run share a prefix, by which they are found and dropped at its end. */
export const databaseName = (runId: string, what: string): string => {
  const plain = what.toLowerCase().replaceAll(/[^a-z0-9]+/g, '_')
  const digest = createHash('sha256').update(what).digest('hex').slice(0, 8)
  return `x_${runId}_${digest}_${plain}`.slice(0, 63)
}

const exists = async (client: Client, name: string): Promise<boolean> =>
  (await client.query('SELECT 1 FROM pg_database WHERE datname = $1', [name])).rowCount === 1

/**
 * The name of the migrated template, built now if this is the first request. Workers of one run are serialised by an
 * advisory lock on the maintenance database. A database is renamed to its final name when it is complete, so that a
 * preparation that failed is not taken for one that worked.
 */
export const ensureTemplate = (url: string, runId: string, template: DatabaseTemplate): Promise<string> =>
  withAdmin(url, async (client) => {
    const name = databaseName(runId, `tpl_${template.name}`)
    const unfinished = `${name.slice(0, 55)}_wip`
    await client.query('SELECT pg_advisory_lock(hashtextextended($1, 0))', [name])
    if (await exists(client, name)) return name
    await client.query(`DROP DATABASE IF EXISTS ${escapeIdentifier(unfinished)} WITH (FORCE)`)
    await client.query(`CREATE DATABASE ${escapeIdentifier(unfinished)}`)
    const pool = new Pool({
      connectionString: withDatabase(url, unfinished),
      application_name: testkitName,
      idleTimeoutMillis: 0,
    })
    // The termination below may reach a connection that is just closing: an error that nobody needs to hear of.
    pool.on('error', () => {})
    pool.on('connect', (connection) => void connection.on('error', () => {}))
    try {
      await template.prepare(pool)
    } finally {
      await pool.end()
    }
    // pool.end() resolves when the sockets are closed here; the server may notice a moment later, and refuses to
    // rename a database that somebody is still connected to.
    await client.query(
      'SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = $1 AND pid <> pg_backend_pid()',
      [unfinished],
    )
    await client.query(`ALTER DATABASE ${escapeIdentifier(unfinished)} RENAME TO ${escapeIdentifier(name)}`)
    return name
  })

/** A database of its own for one test file. */
export const cloneTemplate = (url: string, template: string, name: string): Promise<void> =>
  withAdmin(url, async (client) => {
    await client.query(`CREATE DATABASE ${escapeIdentifier(name)} TEMPLATE ${escapeIdentifier(template)}`)
  })

/** The comment that keeps a database of a failed test when its run is over. */
const keptComment = 'kept: a test failed here'

export const keepDatabase = (url: string, name: string): Promise<void> =>
  withAdmin(url, async (client) => {
    await client.query(`COMMENT ON DATABASE ${escapeIdentifier(name)} IS '${keptComment}'`)
  })

/** Drops what the run created, except databases that were kept for inspection. */
export const dropRunDatabases = (url: string, runId: string): Promise<void> =>
  withAdmin(url, async (client) => {
    const { rows } = await client.query<{ datname: string }>(
      `SELECT datname FROM pg_database
       WHERE starts_with(datname, $1) AND shobj_description(oid, 'pg_database') IS DISTINCT FROM $2`,
      [`x_${runId}_`, keptComment],
    )
    for (const { datname } of rows) {
      await client.query(`DROP DATABASE IF EXISTS ${escapeIdentifier(datname)} WITH (FORCE)`)
    }
  })
