import { randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { createClusterDiscovery } from '@x/cluster-discovery'
import { migrate as migrateCluster } from '@x/cluster-discovery/migrations'
import { createLeaderInput } from '@x/leader-input'
import { migrate as migrateInput } from '@x/leader-input/migrations'
import { createAdvisoryLocker } from '@x/lock-advisory'
import { checkFence, createTableLocker } from '@x/lock-table'
import { migrate as migrateTable } from '@x/lock-table/migrations'
import { eventually } from '@x/testkit'
import { useDatabase } from '@x/testkit/vitest'
import type pg from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'

const database = useDatabase({ leakCheck: 'file' })

const guide = readFileSync(new URL('../../docs/operations.md', import.meta.url), 'utf8')
/** The SQL under a heading of the guide, with the roles of this run. Roles belong to the server, not to a database. */
const suffix = randomBytes(4).toString('hex')
const sqlOf = (heading: string): readonly string[] => {
  const section = guide.split(`### ${heading}\n`)[1]?.split(/\n##+ /)[0] ?? ''
  return [...section.matchAll(/```sql\n([\s\S]*?)```/g)].map((block) =>
    (block[1] ?? '')
      .replaceAll(/app_(\w+)/g, `app_$1_${suffix}`)
      .replace('DATABASE app ', `DATABASE "${database.name}" `),
  )
}
const poolAs = (role: string): pg.Pool => {
  const url = new URL(database.url)
  url.username = `app_${role}_${suffix}`
  url.password = 'secret'
  return database.pool({ connectionString: url.href })
}
const urlAs = (role: string): string => String((poolAs(role).options as { connectionString?: string }).connectionString)

beforeAll(async () => {
  const admin = database.pool()
  for (const role of ['migrator', 'owner', 'runtime', 'observer']) {
    await admin.query(`CREATE ROLE app_${role}_${suffix} LOGIN PASSWORD 'secret'`)
  }
  for (const statement of sqlOf('migrator').slice(0, 2).join('').split(';')) {
    await admin.query(statement).catch((error: { code?: string }) => {
      // The capture role belongs to the server: another test may have made it.
      if (error.code !== '42710') throw error
    })
  }
  await admin.query(`CREATE TABLE orders (id int PRIMARY KEY, total int);
    ALTER TABLE orders OWNER TO app_owner_${suffix}; GRANT SELECT, INSERT, UPDATE ON orders TO app_runtime_${suffix}`)
})
afterAll(async () => {
  await database
    .pool()
    .query(
      ['migrator', 'owner', 'runtime', 'observer']
        .map((role) => `DROP OWNED BY app_${role}_${suffix} CASCADE; DROP ROLE app_${role}_${suffix};`)
        .join(''),
    )
})

describe('the privileges of docs/operations.md', () => {
  it('suffice to migrate', async () => {
    const pool = poolAs('migrator')
    for (const migrate of [migrateTable, migrateCluster, migrateInput]) await migrate(pool)
    for (const heading of ['runtime', 'observer']) {
      for (const statements of sqlOf(heading))
        await pool.query(statements).catch(() => database.pool().query(statements))
    }
    const owner = [
      ...sqlOf('migrator').slice(2),
      ...sqlOf('runtime').map((sql) => sql.replaceAll('app_runtime', 'app_owner')),
    ]
    for (const statements of owner) await database.pool().query(statements)
  })

  it('when one is missing, is what the error asks for', async () => {
    const pool = poolAs('owner')
    await database.pool().query(`REVOKE UPDATE ON coordination.locks FROM app_owner_${suffix}`)
    const locker = createTableLocker({ pool, wakeUps: 'poll' })
    await expect(locker.tryAcquire('x')).rejects.toMatchObject({
      code: 'PRIVILEGE',
      message: expect.stringContaining('GRANT'),
    })
    await locker.close()
  })

  it('suffice for lock-table', async () => {
    const pool = poolAs('runtime')
    await using locker = createTableLocker({ pool })
    const lock = await locker.acquire('report', { metadata: { by: 'test' } })
    await lock.refresh()
    const waiting = locker.acquire('report')
    await eventually(async () => (await locker.status('report')).waiters === 1)
    await lock.release()
    const next = await waiting
    const client = await pool.connect()
    await client.query('BEGIN')
    await checkFence(client, { resource: 'report', token: next.fencingToken ?? 0n })
    await client.query('COMMIT')
    client.release()
    await next.release()
    const shared = [await locker.acquire('s', { mode: 'shared' }), await locker.acquire('s', { mode: 'shared' })]
    for (const one of shared) await one.release()
    await locker.acquire('forced')
    expect(await locker.forceRelease('forced')).toBe(true)
    expect((await locker.list()).length).toBeGreaterThan(0)
    await locker.prune(3_600_000)
  })

  it('suffice for lock-advisory', async () => {
    await using locker = createAdvisoryLocker({ connectionString: urlAs('runtime'), fencing: 'sequence' })
    const lock = await locker.acquire('report')
    expect(lock.fencingToken).not.toBe(null)
    expect((await locker.status('report')).isAcquired).toBe(true)
    await lock.release()
  })

  it('suffice for cluster-discovery', async () => {
    const pool = poolAs('runtime')
    await using one = createClusterDiscovery({ pool, cluster: 'c', node: { name: 'one' } })
    await using two = createClusterDiscovery({ pool, cluster: 'c', node: { name: 'two' } })
    await one.join()
    await two.join()
    await eventually(() => one.nodes().length === 2)
    await two.updateMetadata({ zone: 'a' })
    await two.leave()
    await eventually(() => one.nodes().length === 1)
  })

  it('suffice to install and to run leader-input', async () => {
    const locker = createTableLocker({ pool: poolAs('runtime') })
    const options = { locker, name: 'orders', tables: ['orders'] as const }
    await using installer = createLeaderInput<{ orders: { id: number; total: number } }>({
      pool: poolAs('owner'),
      ...options,
    })
    await installer.install()
    const pool = poolAs('runtime')
    await pool.query('INSERT INTO orders SELECT n, 0 FROM generate_series(1, 10) n')
    const input = createLeaderInput<{ orders: { id: number; total: number } }>({ pool, ...options })
    let handled = 0
    const running = input.run((events) => {
      handled += events.length
    })
    await eventually(() => handled === 10, { deadlineMs: 60_000 })
    expect((await input.lag()).drift).toEqual([])
    await input.close()
    await running
    await locker.close()
  })

  it('let an observer look and nothing else', async () => {
    const pool = poolAs('observer')
    await pool.query('SELECT * FROM coordination.active_locks')
    await pool.query('SELECT * FROM coordination.changes LIMIT 1')
    await expect(pool.query('DELETE FROM coordination.locks')).rejects.toMatchObject({ code: '42501' })
  })
})
