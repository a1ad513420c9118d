import { readFileSync } from 'node:fs'
import { hasErrorCode, type SqlExecutor } from '@x/lock-core'
import { useDatabase } from '@x/testkit/vitest'
import { drizzle } from 'drizzle-orm/node-postgres'
import knexOf from 'knex'
import { CamelCasePlugin, Kysely, PostgresDialect } from 'kysely'
import type { Pool } from 'pg'
import { DataSource } from 'typeorm'
import { describe, expect, it } from 'vitest'
import { checkFence, migrate } from '../../src/index.ts'
import { drizzleExecutor } from '../recipes/drizzle.ts'
import { knexExecutor } from '../recipes/knex.ts'

const database = useDatabase({
  template: {
    name: 'fencing',
    prepare: async (pool) => {
      await migrate(pool, { package: 'fencing', migrations: ['0001_fencing'] })
    },
  },
})

/** One library: runs `work` in a transaction of it, and once with what it has outside of one. */
interface Library {
  transaction(work: (executor: SqlExecutor) => Promise<void>): Promise<void>
  outside(work: (executor: SqlExecutor) => Promise<void>): Promise<void>
  end(): Promise<void>
}

const libraries: Readonly<Record<string, (pool: Pool, url: string) => Promise<Library>>> = {
  pg: async (pool) => {
    const withClient = async (begin: boolean, work: (executor: SqlExecutor) => Promise<void>): Promise<void> => {
      const client = await pool.connect()
      try {
        if (begin) await client.query('BEGIN')
        await work(client)
        if (begin) await client.query('COMMIT')
      } catch (error) {
        if (begin) await client.query('ROLLBACK')
        throw error
      } finally {
        client.release()
      }
    }
    return {
      transaction: (work) => withClient(true, work),
      outside: (work) => withClient(false, work),
      end: async () => {},
    }
  },
  Kysely: async (pool) => {
    const db = new Kysely<object>({ dialect: new PostgresDialect({ pool }), plugins: [new CamelCasePlugin()] })
    return { transaction: (work) => db.transaction().execute(work), outside: (work) => work(db), end: async () => {} }
  },
  Drizzle: async (pool) => {
    const db = drizzle(pool)
    return {
      transaction: (work) => db.transaction((tx) => work(drizzleExecutor(tx))),
      outside: (work) => work(drizzleExecutor(db)),
      end: async () => {},
    }
  },
  Knex: async (_pool, url) => {
    const knex = knexOf({ client: 'pg', connection: { connectionString: url, application_name: 'testkit' } })
    return {
      transaction: (work) => knex.transaction((trx) => work(knexExecutor(trx))),
      outside: (work) => work(knexExecutor(knex as never)),
      end: () => knex.destroy(),
    }
  },
  TypeORM: async (_pool, url) => {
    const dataSource = new DataSource({ type: 'postgres', url, applicationName: 'testkit' })
    await dataSource.initialize()
    return {
      transaction: (work) => dataSource.transaction((manager) => work(manager)),
      outside: (work) => work(dataSource.manager),
      end: () => dataSource.destroy(),
    }
  },
}

describe.each(Object.entries(libraries))('a transaction of %s', (name, open) => {
  it('is an executor, and what is not one is refused', async () => {
    const pool = database.pool()
    const library = await open(pool, database.url)
    const resource = `of ${name}`
    const seen = async (): Promise<unknown> =>
      (await pool.query('SELECT token::int AS t FROM coordination.fences WHERE resource = $1', [resource])).rows[0]?.t
    await library.transaction((executor) => checkFence(executor, { resource, token: 5n }))
    expect(await seen()).toBe(5)
    const stale = library.transaction((executor) => checkFence(executor, { resource, token: 4n }))
    await expect(stale).rejects.toSatisfy((error) => hasErrorCode(error, 'STALE_FENCE'))
    // Runs in the library's transaction and not beside it: what is rolled back leaves no trace.
    const undone = library.transaction(async (executor) => {
      await checkFence(executor, { resource, token: 9n })
      throw new Error('undo')
    })
    await expect(undone).rejects.toThrow('undo')
    expect(await seen()).toBe(5)
    const outside = library.outside((executor) => checkFence(executor, { resource, token: 10n }))
    await expect(outside).rejects.toMatchObject({ code: 'NOT_IN_TRANSACTION' })
    expect(await seen()).toBe(5)
    await library.end()
  })
})

it.each(['drizzle', 'knex'])('docs/executors.md shows the recipe for %s that is tested here', (name) => {
  const recipe = readFileSync(new URL(`../recipes/${name}.ts`, import.meta.url), 'utf8')
  const guide = readFileSync(new URL('../../../../docs/executors.md', import.meta.url), 'utf8')
  expect(guide).toContain(recipe.trim())
})
