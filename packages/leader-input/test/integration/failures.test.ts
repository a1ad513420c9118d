import { eventually } from '@x/testkit'
import { useDatabase } from '@x/testkit/vitest'
import type { Pool } from 'pg'
import { beforeEach, describe, expect, it } from 'vitest'
import { z } from 'zod'
import type { ChangeEvent, LeaderInput } from '../../src/index.ts'
import { onceLost } from '../support/once-lost.ts'
import { collect, type Shop, shopInput, shopTemplate } from '../support/shop.ts'

const database = useDatabase({ template: shopTemplate })
let pool: Pool
let number = 0
beforeEach(async () => {
  pool = database.pool()
  await pool.query('TRUNCATE effects; DELETE FROM orders')
  number += 1
})

/** Runs a handler that keeps evidence and then does what the test wants of it. */
const start = (
  input: LeaderInput<Shop>,
  then: (events: readonly ChangeEvent<Shop>[], attempt: number) => unknown,
): (() => Promise<void>) => {
  const stop = new AbortController()
  const running = input.run(
    async (events, { trx, attempt }) => {
      for (const event of events) {
        await trx
          .insertInto('effects')
          .values({ key: event.idempotencyKey, id: event.id, operation: event.operation, revision: null })
          .execute()
      }
      await then(events, attempt)
    },
    { signal: stop.signal },
  )
  return async () => {
    stop.abort()
    await running
  }
}
const effects = async (): Promise<string[]> =>
  (await pool.query<{ id: string; operation: string }>('SELECT id, operation FROM effects ORDER BY n')).rows.map(
    ({ id, operation }) => `${operation} ${id}`,
  )
const insert = (...ids: number[]) => pool.query(`INSERT INTO orders SELECT id, 'c', 1 FROM unnest($1::int[]) id`, [ids])

it('tries a failed batch again, and leaves no trace of the failure', async () => {
  await using input = shopInput(pool, { name: `again${number}` })
  await input.install()
  const attempts: number[] = []
  const stop = start(input, (_, attempt) => {
    attempts.push(attempt)
    if (attempt < 3) throw new Error('not yet')
  })
  await insert(1, 2)
  await eventually(async () => (await effects()).length === 2)
  await stop()
  expect(attempts).toEqual([1, 2, 3])
  expect(await effects()).toEqual(['create 1', 'create 2'])
  expect(input.health().lastError).toBeNull()
})

it('does not take a batch for handled whose handler swallowed an error of a statement', async () => {
  await using input = shopInput(pool, { name: `swallow${number}` })
  await input.install()
  let calls = 0
  const stop = new AbortController()
  const running = input.run(
    async (events, { client }) => {
      calls += 1
      await client.query(`INSERT INTO effects (key, id, operation) VALUES ($1, 'x', 'x')`, [events[0]?.idempotencyKey])
      if (calls === 1) await client.query('SELECT 1/0').catch(() => {})
    },
    { signal: stop.signal },
  )
  await insert(1)
  await eventually(async () => (await effects()).length === 1)
  stop.abort()
  await running
  expect(calls).toBe(2)
})

it.each([
  ['swallows an error of a statement', 'SELECT 1/0', 'its error was not passed on'],
  ['rolls back', 'ROLLBACK', 'rolled back the transaction of its batch'],
])('halts at an event whose handler %s, and loses nothing', async (_, statement, message) => {
  await using input = shopInput(pool, { name: `ends${statement}${number}`, maxAttempts: 2, batchSize: 1 })
  await input.install()
  let broken = true
  const stop = new AbortController()
  const running = input.run(
    async (events, { client }) => {
      for (const { idempotencyKey, id, operation } of events) {
        const values = [idempotencyKey, id, operation]
        await client.query('INSERT INTO effects (key, id, operation) VALUES ($1, $2, $3)', values)
      }
      if (broken && events.some(({ id }) => id === '2')) await client.query(statement).catch(() => {})
    },
    { signal: stop.signal },
  )
  await insert(1, 2, 3)
  await eventually(async () => input.health().status === 'halted' || (await input.lag()).events === 0)
  expect(await effects()).toEqual(['create 1'])
  expect(input.health()).toMatchObject({
    epoch: 1n,
    lastError: { code: 'HANDLER_FAILED', cause: { message: expect.stringContaining(message) } },
  })
  broken = false
  await eventually(async () => (await effects()).length === 3)
  // The server shows what is committed before the leader has heard of it.
  await eventually(() => input.health().status === 'leading')
  expect(input.health().epoch).toBe(1n)
  stop.abort()
  await running
})

it('takes a lock that said once that it is lost for lost, whatever it says next', async () => {
  const { locker, lose } = onceLost()
  await using input = shopInput(pool, { name: `once${number}`, locker })
  await input.install()
  const epochs: bigint[] = []
  const stop = new AbortController()
  const running = input.run(
    (_, { epoch }) => {
      epochs.push(epoch)
      if (epochs.length > 1) return
      lose()
      throw new Error('fails while the lock is gone')
    },
    { signal: stop.signal },
  )
  await insert(1)
  await eventually(async () => (await input.lag()).events === 0)
  stop.abort()
  await running
  expect(epochs).toEqual([1n, 2n])
})

it('halts at an event that always fails: keeps the lead and its place, and goes on when the cause is gone', async () => {
  await using input = shopInput(pool, { name: `halt${number}`, maxAttempts: 2 })
  await input.install()
  let broken = true
  const stop = start(input, (events) => {
    if (broken && events.some(({ id }) => id === '3')) throw new Error('cannot do 3')
  })
  await insert(1, 2, 3, 4)
  await eventually(() => input.health().status === 'halted')
  expect(await effects()).toEqual(['create 1', 'create 2'])
  expect(input.health()).toMatchObject({
    epoch: 1n,
    lastError: { code: 'HANDLER_FAILED', cause: { message: 'cannot do 3' } },
  })
  expect((await input.lag()).events).toBe(2)
  broken = false
  await eventually(async () => (await effects()).length === 4)
  await eventually(() => input.health().status === 'leading')
  expect(input.health()).toMatchObject({ lastError: null, epoch: 1n })
  await stop()
  expect(await effects()).toEqual(['create 1', 'create 2', 'create 3', 'create 4'])
})

describe('park', () => {
  it('puts the poison aside with all later events of its keys, delivers the others, and replays in order', async () => {
    await using input = shopInput(pool, { name: `park${number}`, maxAttempts: 2, onFailure: 'park' })
    await input.install()
    let broken = true
    const stop = start(input, (events) => {
      if (broken && events.some(({ id, operation }) => id === '2' && operation === 'create'))
        throw new Error('cannot do 2')
    })
    await insert(1, 2, 3)
    await eventually(async () => (await effects()).length === 2)
    await pool.query('UPDATE orders SET cents = 5 WHERE id = 2')
    // 2 becomes 9, and so 9 has to wait too.
    await pool.query('UPDATE orders SET id = 9 WHERE id = 2')
    await pool.query('UPDATE orders SET cents = 6 WHERE id = 9')
    await pool.query('UPDATE orders SET cents = 6 WHERE id = 1')
    await eventually(async () => (await effects()).includes('update 1'))
    expect(await effects()).toEqual(['create 1', 'create 3', 'update 1'])
    expect(await input.lag()).toMatchObject({ events: 0, parkedKeys: 2 })
    expect((await pool.query('SELECT operation, reason FROM coordination.parked_changes ORDER BY id')).rows).toEqual([
      { operation: 'create', reason: 'cannot do 2' },
      { operation: 'update', reason: null },
      { operation: 'update', reason: null },
      { operation: 'update', reason: null },
    ])

    expect(await input.replayParked()).toEqual({ replayed: 0, stillParked: 4 })
    broken = false
    expect(await input.replayParked()).toEqual({ replayed: 4, stillParked: 0 })
    expect((await effects()).slice(3)).toEqual(['create 2', 'update 2', 'update 9', 'update 9'])
    // The keys are free again.
    await pool.query('DELETE FROM orders WHERE id = 9')
    await eventually(async () => (await effects()).at(-1) === 'delete 9')
    await stop()
    expect((await pool.query('SELECT count(*)::int AS n FROM coordination.parked_changes')).rows).toEqual([{ n: 0 }])
  })

  it('hands over what only waits behind an event that is replayed, also what was parked after that was asked for', async () => {
    await using input = shopInput(pool, { name: `behind${number}`, maxAttempts: 1, onFailure: 'park' })
    await input.install()
    let broken = true
    const stop = start(input, (events) => {
      if (broken && events.some(({ operation }) => operation === 'create')) throw new Error('no creates')
    })
    await insert(1, 2)
    await pool.query('UPDATE orders SET cents = 2 WHERE id = 1')
    await pool.query('UPDATE orders SET cents = 3 WHERE id = 1')
    await eventually(async () => (await input.lag()).events === 0)
    expect(await input.lag()).toMatchObject({ parkedKeys: 2 })
    broken = false
    // The first alone is asked for; the updates of its key wait for nothing else, the other key has failed by itself.
    expect(await input.replayParked({ limit: 1 })).toEqual({ replayed: 1, stillParked: 0 })
    await eventually(async () => (await input.lag()).parkedKeys === 1)
    expect(await effects()).toEqual(['create 1', 'update 1', 'update 1'])
    await pool.query('UPDATE orders SET cents = 4 WHERE id = 1')
    await eventually(async () => (await effects()).length === 4)
    await stop()
  })

  it('parks a truncate behind a parked key, and the whole table behind the truncate', async () => {
    await using input = shopInput(pool, { name: `trunc${number}`, maxAttempts: 1, onFailure: 'park' })
    await input.install()
    const stop = start(input, (events) => {
      if (events.some(({ id, operation }) => id === '1' && operation === 'create')) throw new Error('cannot do 1')
    })
    await insert(1)
    await eventually(async () => (await input.lag()).parkedKeys === 1)
    await pool.query('TRUNCATE orders')
    await insert(2)
    await eventually(
      async () =>
        (await pool.query('SELECT count(*)::int AS n FROM coordination.parked_changes WHERE input = $1', [input.name]))
          .rows[0].n === 3,
    )
    expect(await effects()).toEqual([])
    expect(await input.discardParked({ location: 'public.orders' })).toBe(3)
    await stop()
  })

  it('finds one poison event among many without giving up the others', async () => {
    await using input = shopInput(pool, { name: `many${number}`, maxAttempts: 2, onFailure: 'park', batchSize: 200 })
    await input.install()
    let calls = 0
    const stop = start(input, (events) => {
      calls += 1
      if (events.some(({ id }) => id === '77' || id === '130')) throw new Error('poison')
    })
    await pool.query(`INSERT INTO orders SELECT id, 'c', 1 FROM generate_series(1, 200) id`)
    await eventually(async () => (await effects()).length === 198, { deadlineMs: 20_000 })
    await stop()
    expect(
      (
        await pool.query(`SELECT key->>'id' AS id FROM coordination.parked_changes WHERE input = $1 ORDER BY seq`, [
          input.name,
        ])
      ).rows,
    ).toEqual([{ id: '77' }, { id: '130' }])
    expect(calls).toBeLessThan(60)
  })
})

it('gives up on a handler that does not settle in time, and tries again', async () => {
  await using input = shopInput(pool, { name: `hang${number}`, handlerTimeoutMs: 300 })
  await input.install()
  let aborted = false
  const stop = new AbortController()
  const running = input.run(
    async (events, { client, attempt, signal }) => {
      if (attempt === 1) {
        signal.addEventListener('abort', () => {
          aborted = true
        })
        await new Promise(() => {})
      }
      await client.query(`INSERT INTO effects (key, id, operation) VALUES ($1, 'x', 'x')`, [events[0]?.idempotencyKey])
    },
    { signal: stop.signal },
  )
  await insert(1)
  await eventually(async () => (await effects()).length === 1)
  stop.abort()
  await running
  expect(aborted).toBe(true)
})

it('parks an event whose handler waits for the server longer than it may, although the server does not stop', async () => {
  await using input = shopInput(pool, {
    name: `slow${number}`,
    handlerTimeoutMs: 300,
    maxAttempts: 2,
    onFailure: 'park',
    batchSize: 1,
  })
  await input.install()
  const stop = new AbortController()
  const running = input.run(
    async (events, { client }) => {
      for (const { idempotencyKey, id, operation } of events) {
        if (id === '1') await client.query('SELECT pg_sleep(300)')
        const values = [idempotencyKey, id, operation]
        await client.query('INSERT INTO effects (key, id, operation) VALUES ($1, $2, $3)', values)
      }
    },
    { signal: stop.signal },
  )
  await insert(1, 2)
  await eventually(async () => (await effects()).length === 1)
  stop.abort()
  await running
  expect(await effects()).toEqual(['create 2'])
  expect((await input.lag()).parkedKeys).toBe(1)
  await eventually(async () => {
    const asleep = `SELECT FROM pg_stat_activity WHERE datname = current_database() AND query = 'SELECT pg_sleep(300)'`
    return (await pool.query(asleep)).rowCount === 0
  })
})

it("passes over changes of the handler's own transaction, and of no other", async () => {
  await using input = shopInput(pool, { name: `own${number}`, batchSize: 3 })
  await input.install()
  const seen: string[] = []
  const stop = new AbortController()
  const running = input.run(
    async (events, { trx }) => {
      for (const event of events) {
        seen.push(`${event.operation} ${event.id}`)
        if (event.operation === 'create')
          await trx.updateTable('orders').set({ cents: 99 }).where('id', '=', Number(event.id)).execute()
      }
    },
    { signal: stop.signal },
  )
  await insert(1, 2, 3, 4, 5, 6, 7, 8)
  await eventually(() => seen.length === 8)
  await pool.query('UPDATE orders SET cents = 1 WHERE id = 4')
  await eventually(() => seen.length === 9)
  stop.abort()
  await running
  expect(seen).toEqual([1, 2, 3, 4, 5, 6, 7, 8].map((id) => `create ${id}`).concat('update 4'))
})

it('delivers them when asked to', async () => {
  await using input = shopInput(pool, { name: `loop${number}`, ownChanges: true })
  await input.install()
  const seen: string[] = []
  const stop = new AbortController()
  const running = input.run(
    async (events, { trx }) => {
      for (const event of events) {
        seen.push(`${event.operation} ${event.id}`)
        if (event.operation === 'create')
          await trx.updateTable('orders').set({ cents: 99 }).where('id', '=', Number(event.id)).execute()
      }
    },
    { signal: stop.signal },
  )
  await insert(1)
  await eventually(() => seen.length === 2)
  stop.abort()
  await running
  expect(seen).toEqual(['create 1', 'update 1'])
})

it('refuses the transaction to a handler whose batch is over', async () => {
  await using input = shopInput(pool, { name: `late${number}` })
  await input.install()
  let late: Promise<unknown> | undefined
  const stop = new AbortController()
  const running = input.run(
    (_, { client }) => {
      late = new Promise((resolve) => setTimeout(resolve, 50))
        .then(() => client.query('SELECT 1'))
        .catch((error: unknown) => error)
    },
    { signal: stop.signal },
  )
  await insert(1)
  await eventually(() => late !== undefined)
  expect(await late).toMatchObject({ code: 'CLOSED' })
  stop.abort()
  await running
})

it('parses rows with the schema of their table, and parks what does not fit', async () => {
  const schema = z.looseObject({ cents: z.number().max(10) })
  await using input = shopInput(pool, {
    name: `schema${number}`,
    tables: { orders: { schema } },
    onFailure: 'park',
    maxAttempts: 1,
  })
  await input.install()
  const stop = start(input, () => {})
  await pool.query(`INSERT INTO orders VALUES (1, 'c', 5), (2, 'c', 50), (3, 'c', 6)`)
  await eventually(async () => (await effects()).length === 2)
  await stop()
  expect(await effects()).toEqual(['create 1', 'create 3'])
  const { rows } = await pool.query('SELECT reason FROM coordination.parked_changes WHERE input = $1', [input.name])
  expect(rows).toEqual([{ reason: expect.stringMatching(/public.orders 2: the row does not fit.*cents/) }])
})

it('hands over a parked event of a backfill again, with the same idempotency key, and what waits behind it', async () => {
  await insert(1, 2, 3)
  await using input = shopInput(pool, {
    name: `read${number}`,
    backfill: true,
    onFailure: 'park',
    maxAttempts: 1,
  })
  await input.install()
  let poison = true
  const refused = new Set<string>()
  const stop = start(input, (events) => {
    const bad = events.find((event) => event.id === '2')
    if (!poison || bad === undefined) return
    refused.add(bad.idempotencyKey)
    throw new Error('poison')
  })
  await eventually(async () => (await input.lag()).parkedKeys === 1)
  await pool.query('UPDATE orders SET cents = 2 WHERE id = 2')
  await eventually(
    async () =>
      (await pool.query('SELECT FROM coordination.parked_changes WHERE input = $1', [input.name])).rowCount === 2,
  )
  poison = false
  expect(await input.replayParked()).toEqual({ replayed: 2, stillParked: 0 })
  await stop()
  expect(await effects()).toEqual(['read 1', 'read 3', 'read 2', 'update 2'])
  const { rows } = await pool.query(`SELECT key FROM effects WHERE operation = 'read' AND id = '2'`)
  expect([...refused]).toEqual(rows.map((row) => row.key))
})

it('passes over what a handler changed while it was replaying', async () => {
  await using input = shopInput(pool, { name: `own-replay${number}`, onFailure: 'park', maxAttempts: 1 })
  await input.install()
  let poison = true
  const seen: (string | null)[] = []
  const stop = new AbortController()
  const running = input.run(
    async (events, { client }) => {
      if (poison) throw new Error('poison')
      seen.push(...events.map((event) => event.id))
      await client.query(`INSERT INTO orders VALUES (100, 'own', 1) ON CONFLICT DO NOTHING`)
    },
    { signal: stop.signal },
  )
  await insert(1)
  await eventually(async () => (await input.lag()).parkedKeys === 1)
  poison = false
  expect(await input.replayParked()).toEqual({ replayed: 1, stillParked: 0 })
  await insert(2)
  await eventually(() => seen.includes('2'))
  stop.abort()
  await running
  expect(seen).toEqual(['1', '2'])
})

it('does not park an event because its handler was told to stop', async () => {
  await using input = shopInput(pool, { name: `stopped${number}`, onFailure: 'park', maxAttempts: 1 })
  await input.install()
  const stop = new AbortController()
  let handling = false
  const running = input.run(
    (_, { signal }) =>
      new Promise((_resolve, reject) => {
        handling = true
        signal.addEventListener('abort', () => reject(signal.reason), { once: true })
      }),
    { signal: stop.signal },
  )
  await insert(1)
  await eventually(() => handling)
  stop.abort()
  await running
  expect(await input.lag()).toMatchObject({ parkedKeys: 0, events: 1 })
})

it('parses a row once, however often its batch is tried', async () => {
  const schema = z.looseObject({ customer: z.string().transform((name) => ({ name })) })
  await using input = shopInput(pool, { name: `schema-again${number}`, tables: { orders: { schema } } })
  await input.install()
  const stop = start(input, (_, attempt) => {
    if (attempt === 1) throw new Error('not yet')
  })
  await insert(1)
  await eventually(async () => (await effects()).length === 1)
  await stop()
  expect(await effects()).toEqual(['create 1'])
})

describe('events()', () => {
  it('hands out rows as the schema of their table parsed them, and none that does not fit', async () => {
    const schema = z.looseObject({ customer: z.string().toUpperCase(), cents: z.number().max(10) })
    await using input = shopInput(pool, { name: `iter-schema${number}`, tables: { orders: { schema } } })
    await input.install()
    await pool.query(`INSERT INTO orders VALUES (1, 'c', 5), (2, 'c', 50)`)
    const events = input.events()
    expect((await events.next()).value).toMatchObject({ after: { id: 1, customer: 'C' } })
    const second = events.next()
    await eventually(() => `${input.health().lastError}`.includes('public.orders 2: the row does not fit'))
    await events.return?.()
    expect(await second).toMatchObject({ done: true })
  })

  it('acknowledges an event when the next one is asked for; break acknowledges nothing more', async () => {
    await using input = shopInput(pool, { name: `iter${number}` })
    await input.install()
    await insert(1, 2, 3)
    const first: string[] = []
    for await (const event of input.events()) {
      first.push(`${event.id}`)
      if (first.length === 2) break
    }
    expect(first).toEqual(['1', '2'])
    const keys: string[] = []
    for await (const event of input.events()) {
      keys.push(`${event.id}`)
      if (keys.length === 2) break
    }
    expect(keys).toEqual(['2', '3'])
  })

  it('answers readers who ask before they are answered, in the order in which they asked', async () => {
    await using input = shopInput(pool, { name: `iter-ahead${number}` })
    await input.install()
    const events = input.events()
    const asked = [events.next(), events.next(), events.next()]
    await insert(1, 2)
    expect((await asked[0])?.value).toMatchObject({ id: '1' })
    expect((await asked[1])?.value).toMatchObject({ id: '2' })
    await events.return?.()
    expect(await asked[2]).toMatchObject({ done: true })
  })

  it('leaves parked what run() has parked, whoever asks for it', async () => {
    await using input = shopInput(pool, { name: `iter-parked${number}`, maxAttempts: 1, onFailure: 'park' })
    await input.install()
    const stop = start(input, () => {
      throw new Error('poison')
    })
    await insert(1)
    await eventually(async () => (await input.lag()).parkedKeys === 1)
    await stop()
    const events = input.events()
    const first = events.next()
    expect(await input.replayParked()).toEqual({ replayed: 0, stillParked: 1 })
    await events.return?.()
    expect(await first).toMatchObject({ done: true })
    const handled = start(input, () => {})
    expect(await input.replayParked()).toEqual({ replayed: 1, stillParked: 0 })
    await handled()
    expect(await effects()).toEqual(['create 1'])
  })

  it('gives the same idempotency key on every delivery, and ends with its signal', async () => {
    await using input = shopInput(pool, { name: `keys${number}` })
    await input.install()
    await insert(1)
    const keys = new Set<string>()
    for (const _ of [1, 2]) {
      for await (const event of input.events()) {
        keys.add(event.idempotencyKey)
        break
      }
    }
    expect(keys.size).toBe(1)
    expect([...keys][0]).toMatch(new RegExp(`^keys${number}:\\d+:\\d{16}$`))
    const stop = new AbortController()
    const rest = (async () => {
      const ids: (string | null)[] = []
      for await (const event of input.events({ signal: stop.signal })) ids.push(event.id)
      return ids
    })()
    await eventually(async () => (await input.lag()).events === 0 || input.health().status === 'leading')
    stop.abort()
    await rest
  })
})

it('pauses and goes on', async () => {
  await using input = shopInput(pool, { name: `pause${number}` })
  await input.install()
  const { events, stop } = collect(input)
  await eventually(() => input.health().status === 'leading')
  input.pause()
  await insert(1)
  await eventually(async () => (await input.lag()).events === 1)
  expect(events).toEqual([])
  input.resume()
  await eventually(() => events.length === 1)
  await stop()
})
