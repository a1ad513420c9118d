import { useDatabase } from '@x/testkit/vitest'
import type { Client } from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { tableNames } from '../../src/names.ts'
import { tableStatements } from '../../src/statements.ts'
import { lockTable } from '../support/template.ts'
import { insertWaitingSessions } from '../support/waiting-sessions.ts'

const database = useDatabase({ template: lockTable })
const { handOff, look, lookOne } = tableStatements(tableNames('coordination', 'locks'))
let client: Client

beforeAll(async () => {
  client = await database.client()
  await insertWaitingSessions(client)
})
afterAll(() => client.end())

/** By the function of the migration, and as it is done where there is none; each statement with its number of parameters. */
const ways: readonly (readonly [text: string, parameters: number][])[] = [
  [['SELECT * FROM coordination.lock_hand_off($1, $2, $3, $4, $5, $6, $7)', 7]],
  [
    [handOff.lock.text, 1],
    [handOff.afterwards.text, handOff.parameters],
  ],
]

/** What is left of the key, without what differs from run to run: numbers that are drawn and the time. */
const left = `SELECT json_build_object(
  'lock', (SELECT json_build_array(is_acquired, shared, session_id, acquirer_name, acquirer_address, metadata, line, served,
      fencing_token > 5, fencing_token IS NULL, acquired_at > now() AT TIME ZONE 'UTC' - interval '1 minute',
      expires_at < now() + interval '1 minute', released_at IS NULL)
    FROM coordination.locks WHERE key = 'key'),
  'tickets', (SELECT json_agg(ticket ORDER BY ticket) FROM coordination.lock_waiters WHERE key = 'key'),
  'shares', (SELECT json_agg(session_id ORDER BY session_id) FROM coordination.lock_shares WHERE key = 'key')
) AS left`

interface Outcome {
  readonly rows: readonly string[]
  readonly holder: string | null
  readonly left: unknown
}

/** Each way on the same state, which is undone afterwards. */
const outcomes = async (prepare: readonly string[], owner: string | null, token: number | null): Promise<Outcome[]> => {
  const values = [['key'], [owner], [token], 10_000, 250, false, 'self']
  const found: Outcome[] = []
  for (const way of ways) {
    await client.query('BEGIN')
    await client.query(
      `INSERT INTO coordination.locks (key, is_acquired, session_id, acquirer_name, acquired_at, fencing_token, expires_at, line, served, metadata)
       VALUES ('key', true, 'owner', 'holder', '2026-01-02', 5, now() + interval '1 hour', 30, 10, '{"of": "holder"}')`,
    )
    for (const sql of prepare) await client.query(sql)
    let rows: unknown[] = []
    for (const [text, parameters] of way) {
      rows = (await client.query({ text, values: values.slice(0, parameters), rowMode: 'array' })).rows
    }
    const { rows: after } = await client.query(left)
    const { rows: locks } = await client.query(`SELECT session_id FROM coordination.locks WHERE key = 'key'`)
    found.push({ rows: rows.map(String).sort(), holder: locks[0]?.session_id ?? null, left: after[0] })
    await client.query('ROLLBACK')
  }
  return found
}

const tickets = (...waiters: readonly (readonly [ticket: number, session: string, shared?: boolean])[]): string =>
  `INSERT INTO coordination.lock_waiters (key, ticket, session_id, owner, shared, acquirer_name, acquirer_address, metadata) VALUES ${waiters
    .map(
      ([ticket, session, shared = false]) =>
        `('key', ${ticket}, '${session}', 'o${ticket}', ${shared}, 'n${ticket}', 'a${ticket}', '{"of": "${ticket}"}')`,
    )
    .join(', ')}`

const lapse = `UPDATE coordination.locks SET expires_at = now() - interval '1 minute' WHERE key = 'key'`
const quiet = `UPDATE coordination.lock_timeline SET quiet_until = now() + interval '1 minute'`
const otherBase = 'UPDATE coordination.lock_timeline SET base = base + 1'
const share = (expires: string): string =>
  `INSERT INTO coordination.lock_shares (key, session_id, acquired_at, expires_at, fencing_token) VALUES ('key', 'sharer', now(), now() + interval '${expires}', 4)`

describe('a hand-off is the same by the function, in small steps or not, and by two statements', () => {
  it.each<{
    what: string
    prepare: readonly string[]
    owner?: string | null
    token?: number | null
    to?: string | null
  }>([
    { what: 'one waits', prepare: [tickets([20, 'live'])], to: 'o20' },
    { what: 'one of this process waits', prepare: [tickets([20, 'self'])], to: 'o20' },
    { what: 'one who polls waits', prepare: [tickets([20, 'polls'])], to: 'o20' },
    { what: 'several wait', prepare: [tickets([22, 'live'], [21, 'polls'], [23, 'self'])], to: 'o21' },
    { what: 'the dead stand before', prepare: [tickets([20, 'lapsed'], [21, 'unknown'], [22, 'live'])], to: 'o22' },
    { what: 'a ticket was served before', prepare: [tickets([9, 'live'], [10, 'live'], [22, 'polls'])], to: 'o22' },
    { what: 'all are dead', prepare: [tickets([20, 'lapsed'], [21, 'unknown'])], to: null },
    { what: 'the line is empty', prepare: [], to: null },
    { what: 'there is no line', prepare: [`UPDATE coordination.locks SET line = 0 WHERE key = 'key'`], to: null },
    { what: 'an exclusive head, shared behind', prepare: [tickets([20, 'live'], [21, 'live', true])], to: 'o20' },
    { what: 'a shared head', prepare: [tickets([20, 'live', true], [21, 'self', true], [22, 'live'])], to: null },
    { what: 'the token is not known', prepare: [tickets([20, 'live'])], token: null, to: 'o20' },
    { what: 'the token is another', prepare: [tickets([20, 'live'])], token: 4, to: 'owner' },
    { what: 'the owner is another', prepare: [tickets([20, 'live'])], owner: 'other', to: 'owner' },
    { what: 'nobody gives it back', prepare: [tickets([20, 'live'])], owner: null, token: null, to: 'owner' },
    {
      what: 'nobody gives it back, and it is over',
      prepare: [tickets([20, 'live']), lapse],
      owner: null,
      token: null,
      to: 'o20',
    },
    { what: 'the lease is over', prepare: [tickets([20, 'live']), lapse], to: 'o20' },
    { what: 'a failover keeps it quiet', prepare: [tickets([20, 'live']), quiet], to: null },
    { what: 'nobody has noticed a failover', prepare: [tickets([20, 'live']), otherBase], to: null },
    { what: 'a share was left behind', prepare: [tickets([20, 'live']), share('-1 hour')], to: 'o20' },
    { what: 'the key has no row', prepare: [`DELETE FROM coordination.locks WHERE key = 'key'`], to: null },
  ])('$what', async ({ prepare, owner = 'owner', token = 5, to }) => {
    const [ours, plain] = await outcomes(prepare, owner, token)
    expect(ours).toEqual(plain)
    expect(ours?.holder).toBe(to)
  })
})

describe.each([
  { what: 'one ticket', text: lookOne.text, values: ['due', 1, 'owner', 250] },
  { what: 'many tickets', text: look.text, values: [['due'], [1], ['owner'], [false], 250] },
])('a look at $what', ({ text, values }) => {
  it('says no more of the lease than is left of it', async () => {
    await client.query(`INSERT INTO coordination.locks (key, is_acquired, session_id, fencing_token, expires_at)
      VALUES ('due', true, 'owner', 5, now() + interval '1 hour') ON CONFLICT DO NOTHING`)
    // Rounded up it would be more than was left before the look, most of the times.
    for (let times = 0; times < 30; times += 1) {
      const { rows: before } = await client.query(
        `SELECT extract(epoch FROM expires_at - clock_timestamp()) * 1000 AS left FROM coordination.locks WHERE key = 'due'`,
      )
      const { rows } = await client.query<[position: string, token: string, left: string]>({
        text,
        values,
        rowMode: 'array',
      })
      const left = Number(rows[0]?.[2])
      expect(left).toBeGreaterThan(0)
      expect(left).toBeLessThanOrEqual(Number(before[0].left))
    }
  })
})
