import { subscribe, tracingChannel, unsubscribe } from 'node:diagnostics_channel'
import { eventually } from '@x/testkit'
import { useDatabase } from '@x/testkit/vitest'
import { expect, it } from 'vitest'
import type { BatchTrace, StepDownTrace } from '../../src/index.ts'
import { onceLost } from '../support/once-lost.ts'
import { shopInput, shopTemplate } from '../support/shop.ts'

const database = useDatabase({ template: shopTemplate })

it('tells its channels of batches, of the term, and of an event that is parked, without a connection string', async () => {
  const pool = database.pool()
  await using input = shopInput(pool, { maxAttempts: 2, onFailure: 'park' })
  await input.install()
  const told: [channel: string, message: unknown][] = []
  const names = ['leading', 'stepped-down', 'parked'].map((name) => `coordination:input.${name}`)
  const listener = (message: unknown, name: string | symbol): void => {
    told.push([String(name), message])
  }
  for (const name of names) subscribe(name, listener)
  const batches: Pick<BatchTrace, 'events' | 'parked' | 'attempt' | 'outcome'>[] = []
  const channel = tracingChannel<unknown, BatchTrace>('coordination:input.batch')
  const onBatch = {
    asyncEnd: ({ events, parked, attempt, outcome }: BatchTrace) => {
      batches.push({ events, parked, attempt, ...(outcome === undefined ? {} : { outcome }) })
    },
  }
  channel.subscribe(onBatch as Parameters<typeof channel.subscribe>[0])
  const stop = new AbortController()
  try {
    const running = input.run(
      (events) => {
        if (events.some(({ id }) => id === '2')) throw new Error('not this one')
      },
      { signal: stop.signal },
    )
    await pool.query("INSERT INTO orders (customer, cents) VALUES ('ada', 1)")
    await eventually(() => batches.length === 1)
    await pool.query("INSERT INTO orders (customer, cents) VALUES ('bob', 1)")
    await eventually(() => batches.length === 4)
    stop.abort()
    await running
  } finally {
    for (const name of names) unsubscribe(name, listener)
    channel.unsubscribe(onBatch as Parameters<typeof channel.subscribe>[0])
  }
  expect(batches).toEqual([
    { events: 1, parked: 0, attempt: 1, outcome: 'committed' },
    { events: 1, parked: 0, attempt: 1, outcome: 'handler-failed' },
    { events: 1, parked: 0, attempt: 2, outcome: 'handler-failed' },
    { events: 0, parked: 1, attempt: 1, outcome: 'committed' },
  ])
  const term = { input: 'test', epoch: 1n }
  expect(told).toMatchObject([
    ['coordination:input.leading', term],
    [
      'coordination:input.parked',
      { ...term, location: 'public.orders', idempotencyKey: expect.stringMatching(/^test:/) },
    ],
    ['coordination:input.stepped-down', { ...term, reason: 'stopped' }],
  ])
  const text = JSON.stringify([told, batches], (_, value: unknown) => (typeof value === 'bigint' ? `${value}` : value))
  expect(text).not.toContain('postgres://')
})

it('says how a halted event failed', async () => {
  const pool = database.pool()
  await using input = shopInput(pool, { name: 'halts', maxAttempts: 1 })
  await input.install()
  const halted: unknown[] = []
  const listener = (message: unknown): void => {
    halted.push(message)
  }
  subscribe('coordination:input.halted', listener)
  const stop = new AbortController()
  const running = input.run(
    () => {
      throw new Error('never')
    },
    { signal: stop.signal },
  )
  try {
    await pool.query("INSERT INTO orders (customer, cents) VALUES ('eve', 1)")
    await eventually(() => halted.length > 0)
  } finally {
    unsubscribe('coordination:input.halted', listener)
    stop.abort()
    await running
  }
  expect(halted[0]).toMatchObject({ input: 'halts', epoch: 1n, location: 'public.orders' })
})

it('tells of a gap whoever comes to lead after it, and what is lost', async () => {
  const pool = database.pool()
  await using input = shopInput(pool, { name: 'capped', retention: { maxRows: 3 } })
  await input.install()
  // What the leader of any input does over the cap.
  await pool.query(`UPDATE coordination.cursors SET gap_from = 5, gap_to = 9 WHERE name = 'capped'`)
  const told: unknown[] = []
  const listener = (message: unknown): void => {
    told.push(message)
  }
  subscribe('coordination:input.gap', listener)
  const stop = new AbortController()
  const running = input.run(() => {}, { signal: stop.signal })
  try {
    await eventually(() => input.health().status === 'gap')
    await eventually(() => told.length > 0)
  } finally {
    unsubscribe('coordination:input.gap', listener)
    stop.abort()
    await running
  }
  expect(told).toEqual([{ input: 'capped', fromSeq: 5n, toSeq: 9n }])
})

it('says why a term has ended', async () => {
  const pool = database.pool()
  const { locker, lose } = onceLost()
  await using input = shopInput(pool, { name: 'ends', locker })
  await input.install()
  const reasons: StepDownTrace['reason'][] = []
  const listener = (message: unknown): void => {
    reasons.push((message as StepDownTrace).reason)
  }
  subscribe('coordination:input.stepped-down', listener)
  const stop = new AbortController()
  const backends: unknown[] = []
  const running = input.run(
    async (_, { client }) => {
      backends.push(...Object.values((await client.query('SELECT pg_backend_pid()')).rows[0] ?? {}))
    },
    { signal: stop.signal },
  )
  const handleOne = async (): Promise<void> => {
    const before = backends.length
    await pool.query("INSERT INTO orders (customer, cents) VALUES ('eve', 1)")
    await eventually(async () => backends.length > before && (await input.lag()).events === 0)
  }
  try {
    await handleOne()
    await pool.query(`UPDATE coordination.cursors SET epoch = epoch + 1 WHERE name = 'ends'`)
    await handleOne()
    await eventually(() => reasons.length === 1)
    lose()
    await eventually(() => reasons.length === 2)
    await handleOne()
    await pool.query('SELECT pg_terminate_backend($1)', [backends.at(-1)])
    await eventually(() => reasons.length === 3)
    await handleOne()
    stop.abort()
    await running
  } finally {
    unsubscribe('coordination:input.stepped-down', listener)
    stop.abort()
  }
  expect(reasons).toEqual(['fenced', 'lost', 'failed', 'stopped'])
})
