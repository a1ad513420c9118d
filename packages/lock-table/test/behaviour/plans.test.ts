import { useDatabase } from '@x/testkit/vitest'
import type { Client } from 'pg'
import { beforeAll, describe, expect, it } from 'vitest'
import { tableNames } from '../../src/names.ts'
import { tableStatements } from '../../src/statements.ts'
import { lockTable } from '../support/template.ts'

const database = useDatabase({ template: lockTable, leakCheck: 'file' })
const { renew, grantMany, grantAlike, grantFree, release, releaseMany, grant, handOff } = tableStatements(
  tableNames('coordination', 'locks'),
)

const rows = 20_000
const batch = 1_000

/** Whole reads of the table by what this client has run, however many backends have reported yet. */
const tableReads = async (client: Client, work: () => Promise<unknown>): Promise<number> => {
  const read = async (): Promise<number> => {
    await client.query('SELECT pg_stat_force_next_flush()').catch(() => {})
    const { rows: stats } = await client.query(
      `SELECT pg_stat_get_xact_numscans('coordination.locks'::regclass)::int AS scans`,
    )
    return stats[0].scans
  }
  await client.query('BEGIN')
  try {
    const before = await read()
    await work()
    return (await read()) - before
  } finally {
    await client.query('COMMIT')
  }
}

const keys = (count: number): string[] => Array.from({ length: count }, (_, index) => `lease/${index * 20}`)

/** A full table, known to the planner, most of which a large batch wants: here it turns to reading all of it. */
const fill = async (client: Client): Promise<void> => {
  await client.query(
    `INSERT INTO coordination.locks (key, is_acquired, session_id, fencing_token, expires_at)
     SELECT 'lease/' || i, true, 'owner', i, now() + interval '1 hour' FROM generate_series(0, ${rows - 1}) i
     ON CONFLICT (key) DO UPDATE SET is_acquired = true, session_id = 'owner', fencing_token = excluded.fencing_token,
       expires_at = excluded.expires_at`,
  )
  await client.query('ANALYZE coordination.locks')
}

const renewValues = (count: number): unknown[] => [
  keys(count),
  keys(count).map((_, index) => index * 20),
  'own%',
  null,
  30_000,
  false,
]

describe('a table that was analyzed', () => {
  let client: Client
  beforeAll(async () => {
    client = await database.client()
    await fill(client)
  })

  it('makes the plain statement read all of it', async () => {
    const reads = await tableReads(client, () => client.query(renew.afterwards.text, renewValues(batch * 1)))
    expect(reads).toBeGreaterThan(0)
  })

  it('is read by its index by our renewal, whatever the size of the batch', async () => {
    for (const count of [1, 100, batch]) {
      const reads = await tableReads(client, async () => {
        const { rows: answer } = await client.query(renew.call.text, renewValues(count))
        expect(answer).toEqual([{ renewed: 'all' }])
      })
      expect(reads, `batch of ${count}`).toBe(0)
    }
  })

  it('is read by its index by a renewal of several ttls', async () => {
    const ttls = keys(batch).map((_, index) => 30_000 + index)
    const reads = await tableReads(client, async () => {
      const { rows: answer } = await client.query(renew.call.text, renewValues(batch).with(3, ttls))
      expect(answer).toEqual([{ renewed: 'all' }])
    })
    expect(reads).toBe(0)
  })

  it('is read by its index by a renewal of which some are over', async () => {
    const reads = await tableReads(client, async () => {
      const tokens = keys(batch).map((_, index) => (index % 2 === 0 ? index * 20 : index * 20 + 1))
      const { rows: answer } = await client.query(renew.call.text, renewValues(batch).with(1, tokens))
      expect(answer[0].renewed.split(',')).toHaveLength(batch / 2)
    })
    expect(reads).toBe(0)
  })

  it('is read by its index by grants and releases', async () => {
    const values = [
      keys(batch),
      keys(batch).map(() => 'late'),
      keys(batch).map(() => 30_000),
      keys(batch).map(() => null),
    ]
    const reads = await tableReads(client, async () => {
      await client.query(grantMany.text, [...values, 'name', null, 250, false])
      const [asked, tokens] = renewValues(batch)
      await client.query(release.text, [asked, keys(batch).map(() => 'owner'), tokens, 'off'])
    })
    expect(reads).toBe(0)
  })

  it('is read by its index by grants of what is free, rows that are missing among it, and by their releases', async () => {
    await client.query(`UPDATE coordination.locks SET is_acquired = false`)
    const common = ['name', null, 250, false]
    for (const count of [2, batch]) {
      const wanted = keys(count).map((key, index) => (index % 2 === 0 ? key : `${key}/new`))
      const owners = wanted.map((_, index) => `owner${index}`)
      const each = [wanted, owners, wanted.map(() => 30_000), wanted.map(() => null), ...common]
      for (const way of [
        { text: grantFree.text, values: each },
        { text: grantAlike.text, values: [wanted, 'owner', 30_000, null, ...common] },
      ]) {
        const reads = await tableReads(client, async () => {
          const { rows: grants } = await client.query(way)
          const granted: string[] = grants[0].granted === 'all' ? wanted : JSON.parse(grants[0].granted)
          expect(granted.toSorted()).toEqual(wanted.toSorted())
          const { rows: releases } = await client.query(releaseMany.text, [granted, grants[0].tokens, 'owner%', 'off'])
          expect(releases).toEqual([{ released: 'all' }])
        })
        expect(reads, `batch of ${count}`).toBe(0)
        await client.query(`DELETE FROM coordination.locks WHERE key LIKE '%/new'`)
      }
    }
  })
})

describe('a statement that was prepared when the table was empty', () => {
  it('still reads a full one by its index', async () => {
    const client = await database.client()
    await client.query('TRUNCATE coordination.locks')
    await client.query('ANALYZE coordination.locks')
    const few = keys(10)
    const values = [few, few.map(() => 'late'), few.map(() => 30_000), few.map(() => null), 'name', null, 250, false]
    const run = (): Promise<unknown> => client.query({ name: 'prepared_grant', text: grant.text, values })
    for (let time = 0; time < 7; time += 1) await run()
    const reads = async (): Promise<number> => tableReads(client, run)
    await client.query(
      `INSERT INTO coordination.locks (key) SELECT 'lease/' || i || '-' FROM generate_series(1, ${rows}) i`,
    )
    // The server looks again at its own time; an ANALYZE, as autovacuum runs one after so many changes, is when it must.
    await client.query('ANALYZE coordination.locks')
    expect(await reads()).toBe(0)
  })
})

describe('a hand-off', () => {
  const long = 3_000

  it.each(['never analyzed', 'analyzed'])(
    'reads as much of a line of thousands as of a short one (%s)',
    async (state) => {
      const client = await database.client()
      const key = `line/${state}`
      await client.query(`INSERT INTO coordination.lock_sessions SELECT 's' || i, NULL, now() + interval '1 hour'
      FROM generate_series(1, ${long}) i ON CONFLICT DO NOTHING`)
      await client.query(
        `INSERT INTO coordination.locks (key, is_acquired, session_id, fencing_token, expires_at, line)
       VALUES ($1, true, 'holder', 1, now() + interval '1 hour', ${long})`,
        [key],
      )
      await client.query(
        `INSERT INTO coordination.lock_waiters (key, ticket, session_id, owner, shared)
       SELECT $1, i, 's' || i, 'owner' || i, false FROM generate_series(1, ${long}) i`,
        [key],
      )
      if (state === 'analyzed') await client.query('ANALYZE coordination.lock_waiters, coordination.lock_sessions')
      /** By what this client has run, what has not been reported yet included. */
      const tuplesRead = async (): Promise<Record<string, number>> => {
        const { rows } = await client.query(
          `SELECT t.name, sum(pg_stat_get_xact_tuples_returned(c) + pg_stat_get_xact_tuples_fetched(c))::int AS tuples
           FROM unnest($1::text[]) AS t (name), LATERAL (
             SELECT t.name::regclass::oid AS c UNION ALL SELECT indexrelid FROM pg_index WHERE indrelid = t.name::regclass
           ) AS relations GROUP BY t.name`,
          [['coordination.lock_waiters', 'coordination.lock_sessions', 'coordination.locks']],
        )
        return Object.fromEntries(rows.map(({ name, tuples }) => [name, tuples]))
      }
      await client.query('BEGIN')
      const before = await tuplesRead()
      const values = [[key], ['holder'], [1], 2_000, 250, false, 'me']
      const { rows } = await client.query(handOff.call.text, values)
      expect(rows).toMatchObject([{ released: '1', ticket: '1' }])
      for (const [table, tuples] of Object.entries(await tuplesRead())) {
        expect(tuples - (before[table] ?? 0), table).toBeGreaterThan(0)
        expect(tuples - (before[table] ?? 0), table).toBeLessThan(50)
      }
      await client.query('ROLLBACK')
      await client.end()
    },
  )
})
