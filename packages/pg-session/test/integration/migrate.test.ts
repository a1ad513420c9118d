import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { eventually } from '@x/testkit'
import { useDatabase } from '@x/testkit/vitest'
import type { Pool } from 'pg'
import { describe, expect, it } from 'vitest'
import { checkSchema, createMigrations, createRunner, migrate, type PackageMigrations } from '../../src/index.ts'
import { readMigration, renderMigration } from '../../src/migration.ts'
import { migrationFiles } from '../../src/migration-files.ts'
import { catalogOf, versionsIn } from './catalog.ts'

const database = useDatabase()
const fencing: PackageMigrations = { package: 'fencing', migrations: ['0001_fencing'] }
const every: PackageMigrations = {
  package: 'fencing',
  migrations: Object.keys(migrationFiles)
    .filter((file) => file.endsWith('.up.sql'))
    .map((file) => file.replace(/\.up\.sql$/, ''))
    .sort(),
}
/** Of this database: other files wait for locks on the same server. */
const waitingHere = `
  SELECT FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE NOT granted AND datname = current_database()`

describe('migrate', () => {
  it('applies what is missing, once', async () => {
    const pool = database.pool()
    expect(await migrate(pool, fencing)).toEqual({ applied: ['0001_fencing'], version: 1 })
    expect(await migrate(pool, fencing)).toEqual({ applied: [], version: 1 })
  })

  it('is done once by ten that start at once', async () => {
    const schemas = ['ten_a', 'ten_b', 'ten_c']
    for (const schema of schemas) {
      const pools = Array.from({ length: 10 }, () => database.pool({ max: 1 }))
      const reports = await Promise.all(pools.map((pool) => migrate(pool, every, { schema })))
      const applied = reports.flatMap((report) => report.applied).sort()
      expect(applied).toEqual(every.migrations)
      await Promise.all(pools.map((pool) => pool.end()))
    }
  })

  it('waits for one that is at it, and finds it done', async () => {
    const schema = 'waited'
    const pool = database.pool()
    // The schema stands with another package in it, so that there is a row to lock.
    await pool.query(renderMigration('0003_cluster_discovery', 'up', schema))
    const slow = await database.client()
    await slow.query('BEGIN')
    await slow.query(
      `INSERT INTO ${schema}.schema_versions (package, version, compatible_with) VALUES ('fencing', 0, 0)`,
    )
    const waiting = migrate(pool, fencing, { schema })
    await eventually(async () => (await pool.query(waitingHere)).rowCount === 1)
    await slow.query(renderMigration('0001_fencing', 'up', schema, { schemaExists: true }))
    await slow.query('COMMIT')
    expect(await waiting).toEqual({ applied: [], version: 1 })
    await slow.end()
  })

  it('gives up waiting when the caller does', async () => {
    const schema = 'abandoned'
    const pool = database.pool()
    await pool.query(renderMigration('0003_cluster_discovery', 'up', schema))
    const slow = await database.client()
    await slow.query('BEGIN')
    await slow.query(
      `INSERT INTO ${schema}.schema_versions (package, version, compatible_with) VALUES ('fencing', 0, 0)`,
    )
    const reason = new Error('no time')
    const controller = new AbortController()
    const waiting = migrate(pool, fencing, { schema, signal: controller.signal })
    await eventually(async () => (await pool.query(waitingHere)).rowCount === 1)
    controller.abort(reason)
    await expect(waiting).rejects.toBe(reason)
    await slow.query('ROLLBACK')
    await slow.end()
    expect(await migrate(pool, fencing, { schema })).toMatchObject({ applied: ['0001_fencing'] })
  })

  it('leaves nothing behind when a file fails', async () => {
    const schema = 'broken'
    const pool = database.pool()
    await pool.query(`CREATE SCHEMA ${schema}; CREATE TABLE ${schema}.fences (mine int)`)
    await expect(migrate(pool, fencing, { schema })).rejects.toMatchObject({ code: 'QUERY_FAILED', sqlState: '42P07' })
    expect((await catalogOf(pool, schema)).filter((line) => line.startsWith('r '))).toHaveLength(1)
  })

  it.each(['', 'a\0b', 'x'.repeat(64)])('refuses the schema %j before any I/O', async (schema) => {
    const unreachable = { options: {}, connect: () => Promise.reject(new Error('no I/O')) }
    await expect(migrate(unreachable, fencing, { schema })).rejects.toMatchObject({ code: 'INVALID_OPTIONS' })
  })
})

const psql = ['/usr/lib/postgresql/15/bin/psql', '/usr/bin/psql', '/usr/local/bin/psql', '/opt/homebrew/bin/psql'].find(
  (path) => existsSync(path),
)

describe.each(['coordination', 'Odd "schema\\ \'name'])('by hand with psql, in schema %s', (schema) => {
  it('gives what migrate() gives, and the down files take it back', async ({ skip }) => {
    if (psql === undefined) skip('psql is not installed')
    const byHand = await database.another('by_hand')
    const byCode = await database.another('by_code')
    const run = async (file: string): Promise<void> => {
      const variable = schema === 'coordination' ? [] : ['-v', `schema=${schema}`]
      const path = fileURLToPath(new URL(`../../../../migrations/${file}`, import.meta.url))
      await promisify(execFile)(psql ?? '', [
        '-X',
        '-q',
        '-1',
        '-v',
        'ON_ERROR_STOP=1',
        ...variable,
        '-d',
        byHand.url,
        '-f',
        path,
      ])
    }
    const [hand, code] = [byHand.pool(), byCode.pool()]
    for (const name of every.migrations) await run(`${name}.up.sql`)
    await migrate(code, every, { schema })
    expect(await catalogOf(hand, schema)).toEqual(await catalogOf(code, schema))
    expect(await versionsIn(hand, schema)).toEqual(await versionsIn(code, schema))
    expect(await migrate(hand, every, { schema })).toMatchObject({ applied: [] })

    for (const name of every.migrations.toReversed()) {
      await run(`${name}.down.sql`)
      await code.query(renderMigration(name, 'down', schema))
    }
    for (const pool of [hand, code]) {
      expect((await pool.query('SELECT FROM pg_namespace WHERE nspname = $1', [schema])).rowCount).toBe(0)
    }
  })
})

describe('checkSchema', () => {
  const schema = 'checked'
  const check = (pool: Pool): Promise<void> =>
    checkSchema(createRunner({ pool, applicationName: 'x' }), fencing, schema)
  const record = (pool: Pool, version: number, compatibleWith: number): Promise<unknown> =>
    pool.query(`UPDATE ${schema}.schema_versions SET version = $1, compatible_with = $2`, [version, compatibleWith])

  it('tells a schema that is missing, too old, too new, or fit for a rolling deploy', async () => {
    const pool = database.pool()
    await expect(check(pool)).rejects.toMatchObject({
      code: 'SCHEMA_MISSING',
      message: expect.stringContaining(
        `run once: import { migrate } from '@x/fencing/migrations'; await migrate(pool, { schema: "checked" }); or`,
      ),
    })
    await pool.query(renderMigration('0003_cluster_discovery', 'up', schema))
    await expect(check(pool)).rejects.toMatchObject({ code: 'SCHEMA_MISSING' })
    await migrate(pool, fencing, { schema })
    await expect(check(pool)).resolves.toBeUndefined()
    // The new version is migrated first; code of the version before goes on, and may be rolled back to.
    await record(pool, 2, 1)
    await expect(check(pool)).resolves.toBeUndefined()
    expect(await migrate(pool, fencing, { schema })).toEqual({ applied: [], version: 2 })
    await record(pool, 3, 2)
    await expect(check(pool)).rejects.toMatchObject({ code: 'SCHEMA_NEWER' })
    await expect(migrate(pool, fencing, { schema })).rejects.toMatchObject({ code: 'SCHEMA_NEWER' })
    await record(pool, 0, 0)
    await expect(check(pool)).rejects.toMatchObject({ code: 'SCHEMA_OUTDATED' })
  })

  it('is what a package gets with its own migrate', async () => {
    const pool = database.pool()
    const own = createMigrations(fencing)
    const runner = createRunner({ pool, applicationName: 'x' })
    await expect(own.check(runner, 'factory')).rejects.toMatchObject({ code: 'SCHEMA_MISSING' })
    await own.migrate(pool, { schema: 'factory' })
    await expect(own.check(runner, 'factory')).resolves.toBeUndefined()
    expect(readMigration('0001_fencing').package).toBe(own === undefined ? '' : 'fencing')
  })
})

describe('without the right to', () => {
  it.each([
    ['create a schema', 'no_schema', 'GRANT CREATE ON DATABASE'],
    ['create in the schema', 'no_create', 'GRANT USAGE, CREATE ON SCHEMA "no_create" TO "weak"'],
  ])('%s, migrate names the GRANT', async (_right, schema, grant) => {
    const pool = database.pool()
    const weak = database.pool({ max: 1 })
    await pool.query(
      `DO $$ BEGIN CREATE ROLE weak; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$`,
    )
    if (schema === 'no_create') await pool.query(`CREATE SCHEMA ${schema}`)
    weak.on('connect', (client) => void client.query('SET ROLE weak'))
    await expect(migrate(weak, fencing, { schema })).rejects.toMatchObject({
      code: 'PRIVILEGE',
      message: expect.stringContaining(grant),
    })
    if (schema === 'no_create') {
      await pool.query(`GRANT USAGE, CREATE ON SCHEMA ${schema} TO weak`)
      expect(await migrate(weak, fencing, { schema })).toMatchObject({ applied: ['0001_fencing'] })
    }
  })

  it('lend the capture role, migrate says who must', async () => {
    const pool = database.pool()
    const weak = database.pool({ max: 1 })
    await pool.query(
      `DO $$ BEGIN CREATE ROLE weak; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$`,
    )
    await pool.query(
      `DO $$ BEGIN CREATE ROLE coordination_capture NOLOGIN NOINHERIT; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$`,
    )
    await pool.query('CREATE SCHEMA no_role; GRANT USAGE, CREATE ON SCHEMA no_role TO weak')
    weak.on('connect', (client) => void client.query('SET ROLE weak'))
    const input: PackageMigrations = { package: 'leader-input', migrations: ['0004_leader_input'] }
    await expect(migrate(weak, input, { schema: 'no_role' })).rejects.toMatchObject({
      code: 'PRIVILEGE',
      message: expect.stringContaining('run as an administrator GRANT coordination_capture TO "weak"; or'),
    })
  })
})
