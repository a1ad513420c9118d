import { randomBytes } from 'node:crypto'
import { Client, type ClientConfig, Pool, type PoolConfig } from 'pg'
import { dropDatabase, testkitName, withDatabase } from './admin.ts'
import { cloneTemplate, type DatabaseTemplate, databaseName, ensureTemplate } from './template.ts'

/** A database with nothing in it. */
const emptyTemplate: DatabaseTemplate = { name: 'empty', prepare: async () => {} }

export interface TestDatabase extends AsyncDisposable {
  readonly name: string
  readonly url: string
  /** A pool that is ended with the database. Its connections carry the testkit's application_name. */
  pool(config?: PoolConfig): Pool
  /** A connected client that is ended with the database, or by you. */
  client(config?: ClientConfig): Promise<Client>
  /** Ends every pool and client made here. Idempotent. */
  disconnect(): Promise<void>
  /** Disconnects and drops the database. */
  drop(): Promise<void>
}

/** Pools and clients whose end is owned by the database. */
export const openDatabase = (adminUrl: string, name: string): TestDatabase => {
  const url = withDatabase(adminUrl, name)
  const pools = new Set<Pool>()
  const clients = new Set<Client>()
  const disconnect = async (): Promise<void> => {
    const ending = [...[...pools].map((pool) => (pool.ended ? null : pool.end())), ...[...clients].map((c) => c.end())]
    pools.clear()
    clients.clear()
    await Promise.allSettled(ending)
  }
  const drop = async (): Promise<void> => {
    await disconnect()
    await dropDatabase(adminUrl, name)
  }
  return {
    name,
    url,
    pool(config = {}) {
      // No idle timer: a pool of a test closes with its database, and the leak check counts timers.
      const pool = new Pool({ connectionString: url, application_name: testkitName, idleTimeoutMillis: 0, ...config })
      // A terminated backend is a fault that tests make on purpose; without a listener it would end the process.
      pool.on('error', () => {})
      pools.add(pool)
      return pool
    },
    async client(config = {}) {
      const client = new Client({ connectionString: url, application_name: testkitName, ...config })
      client.on('error', () => {})
      clients.add(client)
      client.once('end', () => clients.delete(client))
      await client.connect()
      return client
    },
    disconnect,
    drop,
    [Symbol.asyncDispose]: drop,
  }
}

export interface CreateDatabaseOptions {
  /** Words for the name. @default 'test' */
  label?: string | undefined
  /** @default an empty database */
  template?: DatabaseTemplate | undefined
  /** Databases of one run share templates. @default a new one */
  runId?: string | undefined
}

/**
 * A database of its own on a server, cloned from a template that is built once a run. Advisory locks and channels
 * belong to a database, so two tests in two schemas of one database would disturb each other.
 *
 * @example
 * await using server = await startPostgres()
 * await using database = await createDatabase(server.url)
 * await database.pool().query('SELECT 1')
 */
export const createDatabase = async (
  adminUrl: string,
  { label = 'test', template = emptyTemplate, runId = randomBytes(4).toString('hex') }: CreateDatabaseOptions = {},
): Promise<TestDatabase> => {
  const from = await ensureTemplate(adminUrl, runId, template)
  const name = databaseName(runId, `${randomBytes(3).toString('hex')}_${label}`)
  await cloneTemplate(adminUrl, from, name)
  return openDatabase(adminUrl, name)
}
