import { createMemoryLocker } from '@x/lock-core/memory'
import { eventually } from '@x/testkit'
import { useDatabase } from '@x/testkit/vitest'
import fc from 'fast-check'
import type { Client } from 'pg'
import { describe, expect, it } from 'vitest'
import { itemsInput, keepEvidence } from '../support/evidence.ts'
import { described, differences, isCaughtUp, workloadTemplate } from '../support/workload.ts'

const database = useDatabase({ template: workloadTemplate })

/** One step of one of the writers. Each has items of its own, so that no interleaving waits for another writer. */
type Step =
  | { readonly writer: number; readonly kind: 'write'; readonly item: number }
  | { readonly writer: number; readonly kind: 'savepoint' | 'undo' | 'commit' | 'rollback' }
const writers = 4
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({ kind: fc.constant('write' as const), writer: fc.nat(writers - 1), item: fc.nat(2) }),
  },
  {
    weight: 5,
    arbitrary: fc.record({
      kind: fc.constantFrom(
        'savepoint' as const,
        'undo' as const,
        'commit' as const,
        'commit' as const,
        'rollback' as const,
      ),
      writer: fc.nat(writers - 1),
    }),
  },
)

const play = async (clients: readonly Client[], steps: readonly Step[]): Promise<void> => {
  const open = new Set<number>()
  const savepoints = new Set<number>()
  for (const each of steps) {
    const { writer } = each
    const client = clients[writer]
    if (client === undefined) continue
    if (each.kind === 'commit' || each.kind === 'rollback') {
      if (open.delete(writer)) await client.query(each.kind)
      savepoints.delete(writer)
      continue
    }
    if (!open.has(writer)) await client.query('BEGIN')
    open.add(writer)
    if (each.kind === 'savepoint') {
      await client.query('SAVEPOINT s')
      savepoints.add(writer)
    } else if (each.kind === 'undo') {
      if (savepoints.has(writer)) await client.query('ROLLBACK TO SAVEPOINT s')
    } else if (each.kind === 'write') await write(client, writer * 10 + each.item)
  }
  for (const writer of open) await clients[writer]?.query('COMMIT')
}

/** Creates, changes or deletes the item, and notes which in the same transaction. */
const write = async (client: Client, item: number): Promise<void> => {
  const { rows } = await client.query<{ rev: number }>('SELECT rev FROM items WHERE id = $1', [item])
  const rev = rows[0]?.rev ?? null
  const next = rev === null ? 1 : rev % 3 === 0 ? null : rev + 1
  if (rev === null) await client.query('INSERT INTO items VALUES ($1, 1)', [item])
  else if (next === null) await client.query('DELETE FROM items WHERE id = $1', [item])
  else await client.query('UPDATE items SET rev = $2 WHERE id = $1', [item, next])
  const operation = rev === null ? 'create' : next === null ? 'delete' : 'update'
  await client.query('INSERT INTO journal (item, what) VALUES ($1, $2)', [item, described(operation, rev, next)])
}

describe('whatever the interleaving of transactions on several connections', () => {
  it('hands over each committed change once, in the order of its row, and nothing that was rolled back', async () => {
    const pool = database.pool()
    await using input = itemsInput({ pool, locker: createMemoryLocker() })
    await input.install()
    const stop = new AbortController()
    const running = input.run(keepEvidence, { signal: stop.signal })
    const clients = await Promise.all(Array.from({ length: writers }, () => database.client()))
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 60 }), async (steps) => {
        await play(clients, steps)
        await eventually(() => isCaughtUp(pool), { deadlineMs: 30_000 })
        expect(await differences(pool)).toEqual([])
      }),
      { numRuns: process.env.COORDINATION_LONG === '1' ? 1_000 : 25 },
    )
    stop.abort()
    await running
  })

  it('keeps up with a hundred writers at once, and one that stays open delays its own changes alone', async () => {
    const world = await database.another('hundred')
    // As many connections as a hundred writers have, or as a smaller server of somebody else's can spare.
    const { rows } = await database
      .pool()
      .query('SELECT setting::int AS most FROM pg_settings WHERE name = $1', ['max_connections'])
    const pool = world.pool({ max: Math.min(100, rows[0].most - 40) })
    await using input = itemsInput({ pool, locker: createMemoryLocker() })
    await input.install()
    const stop = new AbortController()
    const running = input.run(keepEvidence, { signal: stop.signal })
    const late = await world.client()
    await late.query(
      `BEGIN; INSERT INTO items VALUES (0, 1); INSERT INTO journal (item, what) VALUES (0, 'create ->1')`,
    )
    const change = async (item: number): Promise<void> => {
      for (let rev = 1; rev <= 3; rev += 1) {
        await pool.query(
          `WITH noted AS (INSERT INTO journal (item, what) VALUES ($1, $2))
          INSERT INTO items VALUES ($1, $3) ON CONFLICT (id) DO UPDATE SET rev = excluded.rev`,
          [item, rev === 1 ? described('create', null, 1) : described('update', rev - 1, rev), rev],
        )
      }
    }
    await Promise.all(Array.from({ length: 100 }, (_, n) => change(n + 1)))
    const handled = async (): Promise<number> => (await pool.query('SELECT count(*)::int AS n FROM effects')).rows[0].n
    await eventually(async () => (await handled()) === 300, {
      deadlineMs: 30_000,
      what: 'all but the open transaction',
    })
    await late.query('COMMIT')
    await eventually(() => isCaughtUp(pool), { deadlineMs: 30_000 })
    expect(await differences(pool)).toEqual([])
    stop.abort()
    await running
  })

  it('says how far behind a feed is that nobody leads, and does not call it healthy', async () => {
    const world = await database.another('dead')
    const pool = world.pool()
    await using input = itemsInput({ pool, locker: createMemoryLocker() })
    await input.install()
    expect(await input.lag()).toMatchObject({ events: 0, oldestMs: 0 })
    await pool.query('INSERT INTO items SELECT n, 1 FROM generate_series(1, 7) n')
    const first = await input.lag()
    expect(first.events).toBe(7)
    // It grows although nobody moves the cursor, whose own idea of the time stands still.
    const later = await eventually(async () => {
      const lag = await input.lag()
      return lag.oldestMs > first.oldestMs + 50 ? lag : null
    })
    expect(later.events).toBe(7)
    expect(later.logBytes).toBeGreaterThan(0)
    expect(input.health().status).toBe('stopped')
    const writer = await world.client()
    await writer.query('BEGIN; INSERT INTO items VALUES (8, 1)')
    const { rows } = await writer.query('SELECT pg_backend_pid() AS pid')
    expect((await input.lag()).oldestWriterPid).toBe(rows[0].pid)
    await writer.query('ROLLBACK')
  })
})
