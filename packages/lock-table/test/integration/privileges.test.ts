import { acquireMany } from '@x/lock-core'
import { useDatabase } from '@x/testkit/vitest'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { checkFence, createTableLocker } from '../../src/index.ts'
import { lockTable } from '../support/template.ts'

const database = useDatabase({ template: lockTable })
let role: string

beforeAll(async () => {
  role = `lock_runtime_${process.pid}`
  await database.pool().query(`
    CREATE ROLE ${role} LOGIN PASSWORD 'x';
    REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA coordination FROM PUBLIC;
    GRANT USAGE ON SCHEMA coordination TO ${role};
    GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA coordination TO ${role};
    GRANT USAGE ON ALL SEQUENCES IN SCHEMA coordination TO ${role};
    GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA coordination TO ${role};
    -- As after a start of the server: the next grant works the base of the tokens out.
    UPDATE coordination.fencing SET server_started_at = '-infinity'`)
})
afterAll(async () => {
  await database.pool().query(`DROP OWNED BY ${role}`)
  await database.pool().query(`DROP ROLE ${role}`)
})

it('a role with the rights that the README names can do everything', async () => {
  const connectionString = Object.assign(new URL(database.url), { username: role, password: 'x' }).href
  await using locker = createTableLocker({ connectionString, pollMs: 50 })
  const one = await locker.acquire('one', { metadata: { of: 'one' } })
  await one.refresh(60_000)
  const waiting = locker.acquire('one')
  await expect.poll(async () => (await locker.status('one')).waiters).toBe(1)
  await one.release()
  const next = await waiting
  expect(next.fencingToken).toBeGreaterThan(one.fencingToken ?? 0n)
  await next.refresh()
  await next.release()
  const over = new AbortController()
  const shared = await locker.acquire('shared', { mode: 'shared', minHoldMs: 100 })
  const leaving = expect(locker.acquire('shared', { signal: over.signal })).rejects.toThrow('over')
  await expect.poll(async () => (await locker.status('shared')).waiters).toBe(1)
  over.abort(new Error('over'))
  await leaving
  await shared.refresh()
  await shared.release()
  await (await acquireMany(locker, ['all/a', 'all/b'])).release()
  const many = await Promise.all(['a', 'b', 'c'].map((key) => locker.acquire(`many/${key}`, { minHoldMs: 1 })))
  await Promise.all(many.map((lock) => lock.release()))
  const forced = await locker.acquire('forced', { renew: 'manual' })
  expect(await locker.forceRelease(forced.key)).toBe(true)
  expect(await locker.forceRelease(forced.key, { immediate: true })).toBe(true)
  expect((await locker.list({ prefix: 'many/' })).length).toBe(3)
  expect(await locker.prune(0)).toBeGreaterThan(0)
  const client = await database.client()
  await client.query(`SET ROLE ${role}`)
  await client.query('BEGIN')
  await checkFence(client, { resource: 'one', token: next.fencingToken ?? 0n })
  await client.query('COMMIT')
  await client.end()
})
