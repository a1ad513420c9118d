import { startPrivatePostgres } from '@x/testkit'
import { Client, Pool } from 'pg'
import { expect, it } from 'vitest'
import { createTableLocker } from '../../src/index.ts'
import { migrate } from '../../src/migrations.ts'

it('a plain release waits for no standby, and leaves nothing behind on its connection; what has to be durable waits', async () => {
  await using server = await startPrivatePostgres()
  const pool = new Pool({ connectionString: server.url, options: '-c synchronous_commit=remote_apply' })
  pool.on('error', () => {})
  await migrate(pool)
  const locker = createTableLocker({ pool, wakeUps: 'poll', pollMs: 50, ttlMs: 60_000 })
  const alone = await locker.acquire('alone')
  const many = await Promise.all(['many/1', 'many/2', 'many/3'].map((key) => locker.acquire(key)))
  const kept = await locker.acquire('kept', { minHoldMs: 30_000 })
  const lined = await locker.acquire('lined')
  const next = locker.acquire('lined')
  await expect.poll(async () => (await locker.status('lined')).waiters).toBe(1)

  const admin = new Client({ connectionString: server.url })
  const probe = new Client({ connectionString: server.url })
  await admin.connect()
  await probe.connect()
  const standing = async (text: string): Promise<number> => {
    const { rows } = await admin.query(
      `SELECT FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND position($1 in query) > 0`,
      [text],
    )
    return rows.length
  }
  // From now on a commit that is asked to be durable waits for a standby that never comes.
  await admin.query(`ALTER SYSTEM SET synchronous_standby_names = 'nobody'`)
  await admin.query('SELECT pg_reload_conf()')
  let hung: Promise<unknown> | null = null
  for (let number = 0; hung === null; number += 1) {
    let committed = false
    const create = probe.query(`CREATE TABLE probe_${number} ()`).then(() => {
      committed = true
    })
    await expect.poll(async () => committed || (await standing('probe_')) > 0).toBe(true)
    if (!committed) hung = create
  }

  await alone.release()
  await Promise.all(many.map((lock) => lock.release()))
  const clients = await Promise.all(Array.from({ length: pool.totalCount }, () => pool.connect()))
  for (const client of clients) {
    expect((await client.query('SHOW synchronous_commit')).rows).toEqual([{ synchronous_commit: 'remote_apply' }])
    client.release()
  }
  const waiting = [kept.release(), lined.release(), locker.acquire('alone')] as const
  for (const text of ['SET session_id = NULL', 'lock_hand_off', 'INSERT INTO "coordination"."locks"']) {
    await expect.poll(() => standing(text)).toBeGreaterThan(0)
  }

  await admin.query('ALTER SYSTEM RESET synchronous_standby_names')
  await admin.query('SELECT pg_reload_conf()')
  await hung
  const [, , again] = await Promise.all(waiting)
  await again.release()
  await (await next).release()
  await locker.close()
  for (const client of [admin, probe]) await client.end()
  await pool.end()
})
