import { channel } from 'node:diagnostics_channel'
import { acquireMany, createSemaphore, type Lock } from '@x/lock-core'
import { useDatabase } from '@x/testkit/vitest'
import { Kysely, PostgresDialect } from 'kysely'
import { describe, expect, it } from 'vitest'
import { checkFence, createTableLocker } from '../../src/index.ts'
import { migrate } from '../../src/migrations.ts'
import { tableNames } from '../../src/names.ts'
import { tableStatements } from '../../src/statements.ts'
import { countingPool } from '../support/counting-pool.ts'
import { gatedPool } from '../support/gated-pool.ts'
import { lockTable } from '../support/template.ts'

const database = useDatabase({ template: lockTable })
const poll = { wakeUps: 'poll', pollMs: 50 } as const

describe('a try for a key that is held', () => {
  it('writes nothing, however often', async () => {
    // Backends report what they wrote when they end: the one that writes the row, and later those that try for it.
    const writer = await database.client()
    await writer.query(
      `INSERT INTO coordination.locks (key, is_acquired, session_id, fencing_token, expires_at)
       VALUES ('contended', true, 'holder', 1, now() + interval '1 hour')`,
    )
    await writer.end()
    const admin = await database.client()
    const written = async (): Promise<unknown> => {
      const { rows } = await admin.query(
        `SELECT l.xmin::text, l.xmax::text, s.n_tup_ins::int, s.n_tup_upd::int, s.n_tup_del::int
         FROM coordination.locks l, pg_stat_user_tables s
         WHERE l.key = 'contended' AND s.schemaname = 'coordination' AND s.relname = 'locks'`,
      )
      return rows[0]
    }
    const untouched = { xmin: expect.any(String), xmax: '0', n_tup_ins: 1, n_tup_upd: 0, n_tup_del: 0 }
    await expect.poll(written).toEqual(untouched)
    const before = await written()
    const locker = createTableLocker({ connectionString: database.url })
    // It knows its ground from here on, and takes the short way to a key that it has not found held yet.
    await (await locker.acquire('warm')).release()
    for (let time = 0; time < 50; time += 1) expect(await locker.tryAcquire('contended')).toBeNull()
    expect(await locker.tryAcquireMany?.(['contended', 'beside'])).toBeNull()
    await locker.close()
    // What the other key took, and the row that is held as it was.
    await expect.poll(written).toEqual({ ...Object(before), n_tup_ins: 2, n_tup_upd: 1 })
    await admin.end()
  })
})

describe('statements', () => {
  it('a thousand callers who are the first of all cost no more than that', async () => {
    const counted = countingPool(database.pool({ max: 2 }))
    await using locker = createTableLocker({ pool: counted.pool, ...poll, ttlMs: 77_000 })
    const locks = await Promise.all(Array.from({ length: 1_000 }, (_, index) => locker.acquire(`first/${index}`)))
    // The versions of the schema, the ground, the longer ttl, and the grants.
    expect(counted.statements()).toBeLessThanOrEqual(6)
    await Promise.all(locks.map((lock) => lock.release()))
  })

  it('a thousand callers share a few, and ten thousand leases share one renewal', async () => {
    const counted = countingPool(database.pool({ max: 4 }))
    await using locker = createTableLocker({ pool: counted.pool, ...poll })
    await (await locker.acquire('warm')).release()
    counted.reset()
    const locks = await Promise.all(Array.from({ length: 1_000 }, (_, index) => locker.acquire(`many/${index}`)))
    expect(counted.statements()).toBeLessThanOrEqual(4)
    counted.reset()
    await Promise.all(locks.map((lock) => lock.release()))
    expect(counted.statements()).toBeLessThanOrEqual(4)
    const leases = await Promise.all(
      Array.from({ length: 10_000 }, (_, index) => locker.acquire(`lease/${index}`, { ttlMs: 6_000 })),
    )
    counted.reset()
    await expect.poll(() => counted.statements()).toBeGreaterThan(0)
    expect(counted.statements()).toBe(1)
    expect(leases.every((lock) => lock.isHeld())).toBe(true)
    await Promise.all(leases.map((lock) => lock.release()))
  })

  it('those who try one key together look at it once, while they find it held', async () => {
    await using other = createTableLocker({ pool: database.pool({ max: 1 }), ...poll })
    const held = await other.acquire('looked at')
    const counted = countingPool(database.pool({ max: 4 }))
    await using locker = createTableLocker({ pool: counted.pool, ...poll })
    const tries = async (): Promise<readonly (Lock | null)[]> =>
      (await Promise.all(Array.from({ length: 50 }, () => locker.tryAcquire('looked at')))).filter(
        (lock) => lock !== null,
      )
    expect(await tries()).toEqual([])
    counted.reset()
    expect(await tries()).toEqual([])
    expect(counted.statements()).toBe(1)
    await held.release()
    const granted = await tries()
    expect(granted).toHaveLength(1)
    await granted[0]?.release()
  })

  it('a key that was held a moment ago and is shared by now is shared with others, and refused at a look to those who want it alone', async () => {
    await using other = createTableLocker({ pool: database.pool({ max: 1 }), ...poll })
    const held = await other.acquire('shared by now')
    const counted = countingPool(database.pool({ max: 1 }))
    await using locker = createTableLocker({ pool: counted.pool, ...poll })
    expect(await locker.tryAcquire('shared by now')).toBeNull()
    await held.release()
    await using _ = await other.acquire('shared by now', { mode: 'shared' })
    counted.reset()
    expect(await locker.tryAcquire('shared by now')).toBeNull()
    expect(counted.byName()).toEqual({ lock_peek_one: 1 })
    const shared = await locker.tryAcquire('shared by now', { mode: 'shared' })
    expect(shared?.isHeld()).toBe(true)
    await shared?.release()
  })

  it('a look that is answered while the locker closes is no answer to the one who tried', async () => {
    await using other = createTableLocker({ pool: database.pool({ max: 1 }), ...poll })
    await using _ = await other.acquire('looked at and closed')
    const gate = gatedPool(database.pool(), 'lock_peek')
    const locker = createTableLocker({ pool: gate.pool, ...poll })
    expect(await locker.tryAcquire('looked at and closed')).toBeNull()
    const failed = expect(locker.tryAcquire('looked at and closed')).rejects.toMatchObject({ code: 'CLOSED' })
    await expect.poll(() => gate.arrived).toBe(1)
    const closed = locker.close()
    gate.open()
    await failed
    await closed
  })

  it('are committed durably where it counts and nowhere else, whatever the setting of the role', async () => {
    const admin = await database.client()
    await admin.query(`
      CREATE TABLE coordination.commits (what text, setting text);
      CREATE FUNCTION coordination.note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO coordination.commits VALUES (TG_TABLE_NAME || ' ' || TG_OP, current_setting('synchronous_commit'));
        RETURN NULL;
      END $$;
      CREATE CONSTRAINT TRIGGER note AFTER INSERT OR UPDATE ON coordination.locks DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION coordination.note();
      CREATE CONSTRAINT TRIGGER note AFTER INSERT OR UPDATE ON coordination.lock_sessions DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION coordination.note();
      CREATE CONSTRAINT TRIGGER note AFTER INSERT OR UPDATE ON coordination.lock_shares DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION coordination.note();`)
    try {
      const noted = async (): Promise<readonly unknown[]> =>
        (await admin.query('DELETE FROM coordination.commits RETURNING what, setting')).rows
      const pool = database.pool({ options: '-c synchronous_commit=local' })
      await using locker = createTableLocker({ pool, ...poll })
      await using other = createTableLocker({ pool, ...poll })
      const lock = await locker.acquire('durable')
      expect(await noted()).toEqual([{ what: 'locks INSERT', setting: 'on' }])
      await lock.refresh()
      expect(await noted()).toEqual([{ what: 'locks UPDATE', setting: 'on' }])
      const waiting = other.acquire('durable')
      await expect.poll(async () => (await locker.status('durable')).waiters).toBe(1)
      for (const row of await noted()) expect(row).toMatchObject({ setting: 'off' })
      await lock.release()
      expect((await noted()).filter((row) => row !== null)).toContainEqual({ what: 'locks UPDATE', setting: 'on' })
      await (await waiting).release()

      // The statements for keys that are free: one, and several.
      await noted()
      const alone = await locker.acquire('durable/alone')
      expect(await noted()).toEqual([{ what: 'locks INSERT', setting: 'on' }])
      const many = await Promise.all([locker.acquire('durable/a'), locker.acquire('durable/b')])
      expect(await noted()).toEqual(Array(2).fill({ what: 'locks INSERT', setting: 'on' }))
      // What a crash undoes of a plain release ends with its lease, so that need not wait for the disk.
      await alone.release()
      expect(await noted()).toEqual([{ what: 'locks UPDATE', setting: 'off' }])
      await Promise.all(many.map((held) => held.release()))
      expect(await noted()).toEqual(Array(2).fill({ what: 'locks UPDATE', setting: 'off' }))
      // Two of a kind within the time that one is meant to be kept would be one too many.
      for (const mode of ['exclusive', 'shared'] as const) {
        const kept = await locker.acquire(`durable/${mode}`, { mode, minHoldMs: 60_000 })
        await noted()
        await kept.release()
        expect(await noted()).toEqual([
          { what: `${mode === 'shared' ? 'lock_shares' : 'locks'} UPDATE`, setting: 'on' },
        ])
      }
      const forced = await locker.acquire('durable/forced')
      await noted()
      await locker.forceRelease(forced.key)
      expect(await noted()).toEqual([{ what: 'locks UPDATE', setting: 'on' }])
    } finally {
      await admin.query(`DROP TRIGGER note ON coordination.locks; DROP TRIGGER note ON coordination.lock_sessions;
        DROP TRIGGER note ON coordination.lock_shares; DROP TABLE coordination.commits`)
      await admin.end()
    }
  })
})

describe('what operators do', () => {
  it('lists keys by prefix, holder and state', async () => {
    await using locker = createTableLocker({
      connectionString: database.url,
      acquirer: { name: 'lister', address: '10.1.1.1' },
    })
    const held = await locker.acquire('list/a', { metadata: { job: 'night' } })
    const shared = [
      await locker.acquire('list/b', { mode: 'shared' }),
      await locker.acquire('list/b', { mode: 'shared' }),
    ]
    await (await locker.acquire('list/c')).release()
    const all = await locker.list({ prefix: 'list/' })
    expect(all.map(({ key, isAcquired, mode }) => [key, isAcquired, mode])).toEqual([
      ['list/a', true, 'exclusive'],
      ['list/b', true, 'shared'],
      ['list/c', false, null],
    ])
    expect(all[0]).toMatchObject({
      acquirerName: 'lister',
      acquirerAddress: '10.1.1.1',
      metadata: { job: 'night' },
      fencingToken: held.fencingToken,
    })
    expect(all[1]?.holders.map((holder) => holder.sessionId)).toEqual(shared.map((lock) => lock.sessionId))
    expect((await locker.list({ prefix: 'list/', isAcquired: false })).map(({ key }) => key)).toEqual(['list/c'])
    expect((await locker.list({ prefix: 'list/', acquirerName: 'lister' })).map(({ key }) => key)).toEqual([
      'list/a',
      'list/b',
    ])
    expect((await locker.list({ prefix: 'list/', limit: 1 })).map(({ key }) => key)).toEqual(['list/a'])
    for (const lock of [held, ...shared]) await lock.release()
  })

  it('the view active_locks has what is held, and not what a crashed holder left', async () => {
    await using locker = createTableLocker({ connectionString: database.url, ...poll })
    const held = await locker.acquire('view/held')
    const released = await locker.acquire('view/released')
    await released.release()
    await database.pool().query(
      `INSERT INTO coordination.locks (key, is_acquired, expires_at)
       VALUES ('view/crashed', true, now() - interval '1 second'), ('view/endless', true, NULL)`,
    )
    const { rows } = await database
      .pool()
      .query(`SELECT key, session_id FROM coordination.active_locks WHERE key LIKE 'view/%' ORDER BY key`)
    expect(rows).toEqual([
      { key: 'view/endless', session_id: null },
      { key: 'view/held', session_id: held.sessionId },
    ])
    await held.release()
  })

  it('forceRelease refuses the next renewal, and the key is free when the lease would have ended', async () => {
    await using locker = createTableLocker({ connectionString: database.url })
    await using other = createTableLocker({ connectionString: database.url, pollMs: 50 })
    for (const mode of ['exclusive', 'shared'] as const) {
      const key = `force/${mode}`
      const lock = await locker.acquire(key, { mode, ttlMs: 1_500 })
      expect(await other.forceRelease(key)).toBe(true)
      expect(await other.tryAcquire(key)).toBeNull()
      const next = await other.acquire(key)
      expect(lock.signal.reason).toMatchObject({ code: 'LOCK_LOST', reason: 'forced' })
      await next.release()
      expect(await other.forceRelease(key)).toBe(false)
    }
  })

  it('forceRelease at once gives the key to the next in line', async () => {
    await using locker = createTableLocker({ connectionString: database.url })
    await using other = createTableLocker({ connectionString: database.url, ...poll })
    const lock = await locker.acquire('force/now', { ttlMs: 60_000, renew: 'manual' })
    const waiting = other.acquire('force/now')
    await expect.poll(async () => (await locker.status('force/now')).waiters).toBe(1)
    expect(await other.forceRelease('force/now', { immediate: true })).toBe(true)
    const next = await waiting
    expect(next.fencingToken).toBeGreaterThan(lock.fencingToken ?? 0n)
    await expect(lock.release()).rejects.toMatchObject({ code: 'LOCK_NOT_HELD' })
    expect(next.isHeld()).toBe(true)
    await next.release()
  })

  it('force at once by an operator who dies before the hand-off leaves a line that goes on, and a key that can be shown', async () => {
    await using locker = createTableLocker({ connectionString: database.url, pollMs: 100 })
    await using other = createTableLocker({ connectionString: database.url, pollMs: 100 })
    await locker.acquire('force/dies', { ttlMs: 60_000, renew: 'manual' })
    const waiting = other.acquire('force/dies', { waitTimeoutMs: 20_000 })
    await expect.poll(async () => (await locker.status('force/dies')).waiters).toBe(1)
    const client = await database.client()
    await client.query('BEGIN')
    await client.query(tableStatements(tableNames('coordination', 'locks')).expire.text, ['force/dies'])
    const { rows } = await client.query(
      `SELECT isfinite(expires_at) AS finite FROM coordination.locks WHERE key = 'force/dies'`,
    )
    expect(rows).toEqual([{ finite: true }])
    await client.query('COMMIT')
    await (await waiting).release()
    expect(await locker.status('force/dies')).toMatchObject({ isAcquired: false })
  })

  it('prune deletes what has been free for long, never what is held; tokens go on rising', async () => {
    await using locker = createTableLocker({ connectionString: database.url })
    const held = await locker.acquire('prune/held')
    const free = await locker.acquire('prune/free')
    await free.release()
    expect(await locker.prune(3_600_000)).toBe(0)
    expect(await locker.prune(0)).toBeGreaterThanOrEqual(1)
    expect((await locker.list({ prefix: 'prune/' })).map(({ key }) => key)).toEqual(['prune/held'])
    expect(held.isHeld()).toBe(true)
    const again = await locker.acquire('prune/free')
    expect(again.fencingToken).toBeGreaterThan(free.fencingToken ?? 0n)
    await again.release()
    await held.release()
    await expect(locker.prune(-1)).rejects.toMatchObject({ code: 'INVALID_OPTIONS' })
  })
})

describe('tracing', () => {
  it('several keys that are acquired at once are as many acquires, each with its release', async () => {
    const seen: unknown[] = []
    const listener = (message: unknown): void => void seen.push(message)
    const names = ['tracing:coordination:lock.acquire:asyncEnd', 'tracing:coordination:lock.release:asyncEnd']
    await using locker = createTableLocker({ connectionString: database.url, ...poll })
    for (const name of names) channel(name).subscribe(listener)
    try {
      const set = await acquireMany(locker, ['traced/a', 'traced/b', 'traced/a'])
      expect(await locker.tryAcquireMany?.(['traced/b', 'traced/c'])).toBeNull()
      await set.release()
    } finally {
      for (const name of names) channel(name).unsubscribe(listener)
    }
    const [acquired, contended, released] = [seen.slice(0, 2), seen.slice(2, 4), seen.slice(4)]
    const fencingToken = expect.any(BigInt)
    for (const key of ['traced/a', 'traced/b']) {
      const trace = { key, waits: false, outcome: 'acquired', batchSize: 2, fencingToken }
      expect(acquired).toContainEqual(expect.objectContaining(trace))
      expect(released).toContainEqual(expect.objectContaining({ key, fencingToken }))
    }
    for (const key of ['traced/b', 'traced/c']) {
      expect(contended).toContainEqual(expect.objectContaining({ key, outcome: 'contended' }))
    }
    expect(seen).toHaveLength(6)
  })
})

describe('on top of it', () => {
  it('a semaphore admits as many as it has permits', async () => {
    await using locker = createTableLocker({ connectionString: database.url, ...poll })
    const semaphore = createSemaphore({ locker, key: 'permits', permits: 2 })
    const [one, two] = [await semaphore.acquire(), await semaphore.acquire()]
    expect(await semaphore.tryAcquire()).toBeNull()
    await one.release()
    await (await semaphore.acquire()).release()
    await two.release()
  })

  it('checkFence guards a pg and a Kysely transaction, also on another database', async () => {
    await using locker = createTableLocker({ connectionString: database.url })
    const elsewhere = await database.another()
    const first = await locker.acquire('fenced')
    await first.release()
    const second = await locker.acquire('fenced')
    const pool = elsewhere.pool()
    const kysely = new Kysely<object>({ dialect: new PostgresDialect({ pool }) })
    const inKysely = (token: bigint | null) =>
      kysely.transaction().execute((trx) => checkFence(trx, { resource: 'fenced', token: token ?? 0n }))
    const inPg = async (token: bigint | null): Promise<void> => {
      const client = await elsewhere.client()
      try {
        await client.query('BEGIN')
        await checkFence(client, { resource: 'fenced', token: token ?? 0n })
        await client.query('COMMIT')
      } finally {
        await client.end()
      }
    }
    for (const guard of [inKysely, inPg]) {
      await guard(second.fencingToken)
      await expect(guard(first.fencingToken)).rejects.toMatchObject({ code: 'STALE_FENCE' })
    }
    await second.release()
  })

  it('without the migration says so, and what to do', async () => {
    await using locker = createTableLocker({ connectionString: database.url, schema: 'not_there' })
    await expect(locker.acquire('key')).rejects.toMatchObject({ code: 'SCHEMA_MISSING' })
    await migrate(database.pool(), { schema: 'not_there' })
    await (await locker.acquire('key')).release()
  })
})
