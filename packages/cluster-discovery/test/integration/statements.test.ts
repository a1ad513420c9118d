import type { Statement } from '@x/pg-session'
import { eventually } from '@x/testkit'
import { useDatabase } from '@x/testkit/vitest'
import type { Client, Pool } from 'pg'
import { beforeAll, beforeEach, describe, expect, it } from 'vitest'
import {
  parseBeat,
  parseDead,
  parseLook,
  parseQuietBeat,
  parseReading,
  parseRecord,
  parseSweeperLook,
} from '../../src/record.ts'
import { clusterStatements } from '../../src/statements.ts'
import { clusterTables } from '../database.ts'

const database = useDatabase({ template: clusterTables })
const sql = clusterStatements('"coordination"', 'test')
let pool: Pool
beforeAll(() => {
  pool = database.pool({ max: 4 })
})
beforeEach(async () => {
  await pool.query(
    'TRUNCATE coordination.cluster, coordination.nodes, coordination.node_beats, coordination.cluster_sweepers',
  )
})

type Queryable = Pick<Client | Pool, 'query'>
const answer = async (on: Queryable, statement: Statement, values: unknown[]): Promise<string | null> => {
  const { rows } = await on.query<{ answer: string }>({ ...statement, values })
  return rows[0]?.answer ?? null
}
/** What no pause of a busy machine outlasts. */
const [ttlMs, leaseMs] = [60_000, 60_000]
const join = async (id: string, attempt = `${id}-1`) =>
  parseRecord((await answer(pool, sql.join, ['c', id, id, null, '{}', attempt, ttlMs, 'channel'])) ?? '')
/** Null: let go. */
const beat = async (on: Queryable, id: string, incarnation: bigint, marker: string | null = null, number = 1) => {
  const text = await answer(on, sql.beat, ['c', id, incarnation, marker, number, leaseMs])
  return text === null ? null : parseBeat(text)
}
const take = (id: string, incarnation: bigint) => answer(pool, sql.take, ['c', id, incarnation, leaseMs])
const read = async (known: bigint) => parseReading((await answer(pool, sql.read, ['c', known])) ?? '')
const silence = (id: string, byMs: number) =>
  pool.query(`UPDATE coordination.node_beats SET at = clock_timestamp() - $2 * interval '1 ms' WHERE id = $1`, [
    id,
    byMs,
  ])
const down = async (
  on: Queryable,
  sweeper: [string, bigint, string],
  id: string,
  incarnation: bigint,
  cause = 'ttl',
  at = '',
) => {
  const text = await answer(on, sql.down, ['c', ...sweeper, [id], [incarnation], [at], cause, 'channel'])
  return text === null ? [] : parseDead(text)
}

describe('join', () => {
  it('gives each incarnation the version of the cluster', async () => {
    expect((await join('a')).node).toMatchObject({ id: 'a', incarnation: 1n, version: 1n, state: 'up' })
    expect((await join('b')).node).toMatchObject({ incarnation: 2n, version: 2n })
  })

  it('finds itself when the answer to the same attempt was lost', async () => {
    const first = await join('a')
    expect(await join('a')).toEqual(first)
    expect((await read(-1n)).version).toBe(1n)
  })

  it('beats when it finds itself: the new deadline of whoever asks is counted from there', async () => {
    const first = await join('a')
    await silence('a', 50_000)
    expect(await join('a')).toEqual(first)
    const { rows } = await pool.query(
      `SELECT at > clock_timestamp() - interval '30 s' AS fresh FROM coordination.node_beats WHERE id = 'a'`,
    )
    expect(rows).toEqual([{ fresh: true }])
  })

  it('replaces whoever has the id, and remembers how that one ended', async () => {
    const first = await join('a')
    const second = await join('a', 'a-2')
    expect(second).toMatchObject({ node: { incarnation: 2n }, previous: { incarnation: 1n, end: 'replaced' } })
    expect(await beat(pool, 'a', first.node.incarnation)).toBeNull()
    await answer(pool, sql.leave, ['c', 'a', 2n, 'channel'])
    expect(await join('a', 'a-3')).toMatchObject({
      node: { incarnation: 4n },
      previous: { incarnation: 2n, end: 'left' },
    })
  })

  it('counts without a gap when many join at once', async () => {
    const ids = Array.from({ length: 40 }, (_, index) => `node-${index}`)
    const joined = await Promise.all(ids.map((id) => join(id)))
    expect(joined.map(({ node }) => Number(node.version)).sort((a, b) => a - b)).toEqual(
      ids.map((_, index) => index + 1),
    )
    expect((await read(-1n)).version).toBe(40n)
  })
})

describe('a beat', () => {
  it('says the version, and that a sweeper is wanted', async () => {
    const { node } = await join('a')
    const { server } = await read(-1n)
    expect(await beat(pool, 'a', node.incarnation)).toEqual({
      version: 1n,
      server,
      sweeping: { sweeper: null, isWanted: true },
    })
    await take('a', 1n)
    expect(await beat(pool, 'a', 1n)).toMatchObject({
      sweeping: { sweeper: { id: 'a', incarnation: 1n, epoch: 1n }, isWanted: false },
    })
  })

  it('that does not ask learns the version alone, and no less that it came too late', async () => {
    await join('a')
    await take('a', 1n)
    const quiet = (incarnation: bigint) => answer(pool, sql.quietBeat, ['c', 'a', incarnation, null, 1])
    const { server } = await read(-1n)
    expect(parseQuietBeat((await quiet(1n)) ?? '')).toEqual({ version: 1n, server, sweeping: null })
    expect(await quiet(2n)).toBeNull()
  })

  it('does not wait for the disk, and leaves the setting of the session alone', async () => {
    await join('a')
    const client = await database.client()
    await client.query('BEGIN')
    await beat(client, 'a', 1n)
    expect((await client.query('SHOW synchronous_commit')).rows).toEqual([{ synchronous_commit: 'off' }])
    await client.query('COMMIT')
    expect((await client.query('SHOW synchronous_commit')).rows).toEqual([{ synchronous_commit: 'on' }])
    await client.end()
  })

  it('is a HOT update', async () => {
    await join('a')
    const client = await database.client()
    // Its snapshot would keep dead versions in the page, and the next one out of it.
    await client.query('ALTER TABLE coordination.node_beats SET (autovacuum_enabled = off)')
    for (let count = 0; count < 200; count += 1) await beat(client, 'a', 1n)
    await client.end()
    await eventually(async () => {
      const { rows } = await pool.query(
        `SELECT n_tup_upd::int AS updates, n_tup_hot_upd::int AS hot FROM pg_stat_user_tables WHERE relname = 'node_beats'`,
      )
      const row = rows[0] ?? { updates: 0, hot: 0 }
      return row.updates >= 200 && row.hot >= row.updates - 2
    })
  })
})

describe('a lost marker', () => {
  const markerOf = async (id: string): Promise<unknown> =>
    (await pool.query(`SELECT marker::text FROM coordination.node_beats WHERE id = $1`, [id])).rows[0]?.marker
  const looksGone = async (id: string): Promise<boolean> =>
    parseLook((await answer(pool, sql.look, ['c', 'a', 1n, '1'])) ?? '').suspects.some((each) => each.id === id)

  it('counts once the connection of the last beat has ended too, or that beat is half a ttl old', async () => {
    await join('a')
    await join('b')
    await take('a', 1n)
    const listener = await database.client()
    const beating = await database.client()
    await listener.query('SELECT pg_advisory_lock_shared(77)')
    await beat(beating, 'b', 2n, '77')
    expect([await markerOf('b'), await looksGone('b')]).toEqual(['77', false])
    await listener.end()
    await eventually(async () => {
      const { rows } = await pool.query(`SELECT FROM pg_locks WHERE locktype = 'advisory' AND objid = 77`)
      return rows.length === 0
    })
    // The server has dropped it; the node does not know, and beats on.
    expect(await looksGone('b')).toBe(false)
    await silence('b', 35_000)
    expect(await looksGone('b')).toBe(true)
    await silence('b', 0)
    await beating.end()
    await eventually(() => looksGone('b'))
  })

  it('of the sweeper is seen by its standbys in the same way', async () => {
    await join('a')
    await take('a', 1n)
    const seen = async () => parseSweeperLook((await answer(pool, sql.watchSweeper, ['c'])) ?? '')
    const listener = await database.client()
    const beating = await database.client()
    expect(await seen()).toMatchObject({ epoch: 1n, gone: false })
    await listener.query('SELECT pg_advisory_lock_shared(79)')
    await beat(beating, 'a', 1n, '79')
    expect([await markerOf('a'), (await seen()).gone]).toEqual(['79', false])
    await listener.end()
    await eventually(async () => (await pool.query(`SELECT FROM pg_locks WHERE objid = 79`)).rows.length === 0)
    expect((await seen()).gone).toBe(false)
    await beating.end()
    await eventually(async () => (await seen()).gone)
    // Whoever looks leaves nothing behind.
    expect((await pool.query(`SELECT FROM pg_locks WHERE objid = 79`)).rows).toEqual([])
  })

  it('is not named by the next beat, nor put back by one that was overtaken', async () => {
    await join('b')
    await beat(pool, 'b', 1n, '78', 1)
    expect(await markerOf('b')).toBeNull()
    const listener = await database.client()
    await listener.query('SELECT pg_advisory_lock_shared(78)')
    await beat(pool, 'b', 1n, '78', 2)
    expect(await markerOf('b')).toBe('78')
    await beat(pool, 'b', 1n, null, 4)
    await beat(pool, 'b', 1n, '78', 3)
    expect(await markerOf('b')).toBeNull()
    await listener.end()
  })
})

describe('a reading', () => {
  it('is what changed after the known version', async () => {
    await join('a')
    await join('b')
    expect(await read(1n)).toMatchObject({ version: 2n, scope: 'delta', records: [{ node: { id: 'b' } }] })
    expect(await read(2n)).toMatchObject({ version: 2n, scope: 'delta', records: [] })
  })

  it('is the full view for whoever knows nothing, less than was pruned, or more than there is', async () => {
    await join('a')
    await join('b')
    await answer(pool, sql.leave, ['c', 'a', 1n, 'channel'])
    for (const known of [-1n, 9n]) expect((await read(known)).scope).toBe('full')
    expect(await answer(pool, sql.prune, ['c', 0, 100])).toBe('1')
    expect(await read(2n)).toMatchObject({ scope: 'full', records: [{ node: { id: 'b' } }] })
    expect((await read(3n)).scope).toBe('delta')
  })

  it('says which deaths are forgotten with the tombstones, and each join which its id may have died', async () => {
    const prunedDeath = async (): Promise<unknown> => {
      const reading = await read(-1n)
      return reading.scope === 'full' ? reading.prunedDeath : undefined
    }
    const prune = () => answer(pool, sql.prune, ['c', 0, 0])
    await join('a')
    await join('b')
    await answer(pool, sql.leave, ['c', 'b', 2n, 'channel'])
    expect([await prune(), await prunedDeath()]).toEqual(['1', 0n])
    // Version 4 replaces version 1, which counts as its death; the tombstone of 4, at version 5, remembers it.
    expect(await join('a', 'a-2')).toMatchObject({ lastDeath: 4n })
    await answer(pool, sql.leave, ['c', 'a', 4n, 'channel'])
    expect(await join('a', 'a-3')).toMatchObject({ lastDeath: 4n, previous: { incarnation: 4n, end: 'left' } })
    await answer(pool, sql.leave, ['c', 'a', 6n, 'channel'])
    expect([await prune(), await prunedDeath()]).toEqual(['1', 4n])
    // A new row knows nothing of its own, and believes what the cluster has forgotten.
    expect(await join('a', 'a-4')).toMatchObject({ node: { version: 8n }, lastDeath: 4n, previous: null })
    await join('b', 'b-2')
    await take('b', 9n)
    await silence('a', 61_000)
    await down(pool, ['b', 9n, '1'], 'a', 8n)
    expect([await prune(), await prunedDeath()]).toEqual(['1', 10n])
  })

  it('keeps the newest tombstones when there are too many', async () => {
    for (const id of ['a', 'b', 'c']) {
      const { node } = await join(id)
      await answer(pool, sql.leave, ['c', id, node.incarnation, 'channel'])
    }
    expect(await answer(pool, sql.prune, ['c', 1e9, 2])).toBe('1')
    expect((await read(-1n)).records.map(({ node }) => node.id)).toEqual(['b', 'c'])
  })
})

describe('the sweeper’s lease', () => {
  it('is taken once, again when it expires, and at once when its holder has left', async () => {
    await join('a')
    await join('b')
    expect(await take('a', 1n)).toBe('1')
    expect(await take('b', 2n)).toBeNull()
    await pool.query(`UPDATE coordination.cluster_sweepers SET renewed_at = clock_timestamp() - interval '61 s'`)
    expect(await take('b', 2n)).toBe('2')
    expect(await answer(pool, sql.look, ['c', 'a', 1n, '1'])).toBeNull()
    await answer(pool, sql.leave, ['c', 'b', 2n, 'channel'])
    expect(await take('a', 1n)).toBe('3')
  })

  it('is not for those who are no members', async () => {
    await join('a')
    expect(await take('a', 7n)).toBeNull()
    expect(await take('nobody', 1n)).toBeNull()
  })
})

describe('down', () => {
  it('lets the silent go, on one version, and tells their next beat', async () => {
    await join('a')
    await join('b')
    await take('a', 1n)
    await silence('b', 61_000)
    const look = parseLook((await answer(pool, sql.look, ['c', 'a', 1n, '1'])) ?? '')
    expect(look).toMatchObject({ members: 2, doubtful: 1, suspects: [{ id: 'b', stale: true, gone: false }] })
    expect(await down(pool, ['a', 1n, '1'], 'b', 2n)).toEqual([{ id: 'b', incarnation: 2n }])
    expect(await beat(pool, 'b', 2n)).toBeNull()
    expect((await read(2n)).records).toMatchObject([{ node: { id: 'b', state: 'down', version: 3n }, cause: 'ttl' }])
  })

  it('neither bumps the version nor touches anybody who is not silent', async () => {
    await join('a')
    await join('b')
    await take('a', 1n)
    expect(await down(pool, ['a', 1n, '1'], 'b', 2n)).toEqual([])
    expect((await read(-1n)).version).toBe(2n)
  })

  it('is refused to a sweeper whose epoch is over, and never meets the sweeper itself', async () => {
    await join('a')
    await join('b')
    await take('a', 1n)
    await silence('a', 61_000)
    await silence('b', 61_000)
    expect(await down(pool, ['a', 1n, '1'], 'a', 1n)).toEqual([])
    expect(await down(pool, ['a', 1n, '0'], 'b', 2n)).toEqual([])
  })

  it('spares a node whose beat commits while the sweeper looks', async () => {
    await join('a')
    await join('b')
    await take('a', 1n)
    await silence('b', 61_000)
    const late = await database.client()
    const sweeper = await database.client()
    await late.query('BEGIN')
    expect(await beat(late, 'b', 2n)).not.toBeNull()
    const { rows } = await sweeper.query<{ pid: number }>('SELECT pg_backend_pid() AS pid')
    const declared = down(sweeper, ['a', 1n, '1'], 'b', 2n)
    await eventually(async () => {
      const { rows: waiting } = await pool.query(`SELECT FROM pg_locks WHERE pid = $1 AND NOT granted`, [rows[0]?.pid])
      return waiting.length > 0
    })
    await late.query('COMMIT')
    expect(await declared).toEqual([])
    expect(await beat(pool, 'b', 2n)).not.toBeNull()
    expect((await read(-1n)).version).toBe(2n)
    await Promise.all([late.end(), sweeper.end()])
  })

  it('tells the beat that waited for it that it came too late', async () => {
    await join('a')
    await join('b')
    await take('a', 1n)
    await silence('b', 61_000)
    const late = await database.client()
    const sweeper = await database.client()
    await sweeper.query('BEGIN')
    expect(await down(sweeper, ['a', 1n, '1'], 'b', 2n)).toHaveLength(1)
    const answered = beat(late, 'b', 2n)
    await sweeper.query('COMMIT')
    expect(await answered).toBeNull()
    await Promise.all([late.end(), sweeper.end()])
  })
})
