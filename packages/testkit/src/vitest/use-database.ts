import { basename } from 'node:path'
import type { Client, ClientConfig, Pool, PoolConfig } from 'pg'
import { afterAll, aroundEach, beforeAll, expect, inject } from 'vitest'
import { databaseLeaks, endLeakedBackends } from '../database/leaks.ts'
import { type DatabaseTemplate, keepDatabase } from '../database/template.ts'
import { createDatabase, openDatabase, type TestDatabase } from '../database/test-database.ts'
import { eventually } from '../faults/eventually.ts'
import { runningProcesses } from '../process/spawn-node.ts'
import type {} from './global-setup.ts'
import { forgetTimers, liveTimers, watchTimers } from './timers.ts'

export interface UseDatabaseOptions {
  /**
   * What the file's database starts with; built once a run for all files that name it.
   * @default an empty database
   */
  template?: DatabaseTemplate | undefined
  /**
   * When to look for what was left behind (advisory locks, connections that are not the testkit's, listeners, open
   * transactions, timers): after each test, only at the end of the file, or never.
   * @default 'each'
   */
  leakCheck?: 'each' | 'file' | 'off' | undefined
  /** How long after a test its connections may take to go, milliseconds. @default 30_000 */
  leakGraceMs?: number | undefined
}

/** The file's database; usable in hooks and tests, not while tests are being declared. */
export interface DatabaseOfFile {
  readonly name: string
  readonly url: string
  /** Superuser on the maintenance database of the same server. */
  readonly adminUrl: string
  /** Major version of the server. */
  readonly major: number
  /** A pool that is ended at the end of the file. */
  pool(config?: PoolConfig): Pool
  /** A connected client that is ended at the end of the file, or by you. */
  client(config?: ClientConfig): Promise<Client>
  /** One more database of the same template, dropped at the end of the file. */
  another(label?: string): Promise<TestDatabase>
}

/**
 * Gives the calling test file a database of its own. A test fails that leaves something behind there. The database of a
 * failed test is named in the output, and kept: on an existing server (`DATABASE_URL`) always, on our own with
 * `KEEP_POSTGRES=1`.
 *
 * @example
 * const database = useDatabase({ template: { name: 'locks', prepare: (pool) => migrate(pool) } })
 * it('locks', async () => { await using locker = createTableLocker({ pool: database.pool() }) })
 */
export const useDatabase = (options: UseDatabaseOptions = {}): DatabaseOfFile => {
  const { template, leakCheck = 'each', leakGraceMs = 30_000 } = options
  let own: TestDatabase | null = null
  let admin: TestDatabase | null = null
  let adminPool: Pool | null = null
  let failed = false
  const others: TestDatabase[] = []

  const current = (): TestDatabase => {
    if (own === null) throw new Error('useDatabase: use it in a test or a hook; the database is made in beforeAll')
    return own
  }
  const create = (label: string): Promise<TestDatabase> => {
    const { url, runId } = inject('postgres')
    return createDatabase(url, { label, template, runId })
  }

  const leaks = async (): Promise<string[]> => {
    if (adminPool === null) return []
    const inDatabase = (await databaseLeaks(adminPool, current().name)).map(
      ({ pid, what }) => `${what}${pid === null ? '' : ` [backend ${pid}]`}`,
    )
    const timers = liveTimers().map((where) => `timer set at ${where}`)
    const processes = runningProcesses().map((pid) => `process ${pid}`)
    return [...inDatabase, ...timers, ...processes]
  }

  const assertNothingLeft = async (): Promise<void> => {
    let last: string[] = []
    try {
      await eventually(
        async () => {
          last = await leaks()
          return last.length === 0
        },
        { deadlineMs: leakGraceMs, everyMs: 20 },
      )
    } catch (cause) {
      if (last.length === 0) throw cause
      failed = true
      if (adminPool) await endLeakedBackends(adminPool, await databaseLeaks(adminPool, current().name))
      forgetTimers()
      throw new Error(`left behind in database ${current().name}:\n  ${last.join('\n  ')}`)
    }
  }

  beforeAll(async () => {
    watchTimers()
    const { url } = inject('postgres')
    own = await create(basename(expect.getState().testPath ?? 'file').replace(/\.test\.ts$/, ''))
    admin = openDatabase(url, new URL(url).pathname.slice(1))
    adminPool = admin.pool({ max: 1 })
    await adminPool.query('SELECT 1')
  })

  aroundEach(async (runTest, { task }) => {
    await runTest()
    if (task.result?.state === 'fail') {
      failed = true
      console.error(`${task.name}: failed in database ${current().name} at ${current().url}`)
    }
    if (leakCheck === 'each') await assertNothingLeft()
  })

  afterAll(async () => {
    try {
      if (own && leakCheck !== 'off') await assertNothingLeft()
    } finally {
      for (const other of others) await other.drop()
      await own?.disconnect()
      await admin?.disconnect()
      if (own && failed) await keepDatabase(inject('postgres').url, own.name)
      else await own?.drop()
    }
  })

  return {
    get name() {
      return current().name
    },
    get url() {
      return current().url
    },
    get adminUrl() {
      return inject('postgres').url
    },
    get major() {
      return inject('postgres').major
    },
    pool: (config) => current().pool(config),
    client: (config) => current().client(config),
    async another(label = 'another') {
      const other = await create(label)
      others.push(other)
      return other
    },
  }
}
