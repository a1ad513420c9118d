import { useDatabase } from '@x/testkit/vitest'
import fc from 'fast-check'
import type { Client } from 'pg'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { tableNames } from '../../src/names.ts'
import { tableStatements } from '../../src/statements.ts'
import { lockTable } from '../support/template.ts'
import { insertWaitingSessions } from '../support/waiting-sessions.ts'

const database = useDatabase({ template: lockTable })
const { handOff } = tableStatements(tableNames('coordination', 'locks'))
let client: Client

/** Processes that wait, and the channels of those that listen; the last two are not alive. */
const sessions = { self: 'of_self', live: 'of_live', polls: null, lapsed: 'of_lapsed', unknown: null } as const
type Session = keyof typeof sessions
const isAlive = (session: Session): boolean => session !== 'lapsed' && session !== 'unknown'

beforeAll(async () => {
  client = await database.client()
  await insertWaitingSessions(client)
})
afterAll(() => client.end())

/** Seconds until a lease ends, far from now on either side but for the second that is within the margin. */
type Ends = -3_600 | -1 | 3_600 | 7_200
const marginMs = 60_000
const claimMs = 600_000
const isOver = (ends: Ends | null): boolean => ends === -3_600

interface Share {
  readonly owner: string
  readonly token: number
  readonly ends: Ends
}
interface Ticket {
  readonly ticket: number
  readonly session: Session
  readonly shared: boolean
}
interface State {
  readonly lock:
    | { readonly kind: 'free' }
    | { readonly kind: 'exclusive'; readonly ends: Ends | null }
    | { readonly kind: 'shared'; readonly shares: readonly Share[] }
  readonly tickets: readonly Ticket[]
  readonly asks: { readonly owner: 'owner' | 'other' | null; readonly token: 5 | 9 | null }
  readonly failover: 'none' | 'quiet' | 'unnoticed'
  readonly afterFailover: boolean
}

const served = 10
const line = 30

const ends = fc.constantFrom<Ends>(-3_600, -1, 3_600, 7_200)
const state: fc.Arbitrary<State> = fc.record({
  lock: fc.oneof(
    fc.constant({ kind: 'free' as const }),
    fc.record({ kind: fc.constant('exclusive' as const), ends: fc.option(ends, { freq: 6 }) }),
    fc.record({
      kind: fc.constant('shared' as const),
      shares: fc
        .tuple(
          fc.subarray(['owner', 'second', 'third'], { minLength: 1 }),
          fc.array(ends, { minLength: 3, maxLength: 3 }),
        )
        .map(([owners, all]) => owners.map((owner, at) => ({ owner, token: 5 + at, ends: all[at] ?? 3_600 }))),
    }),
  ),
  tickets: fc.uniqueArray(fc.integer({ min: 8, max: line }), { maxLength: 6 }).chain((numbers) =>
    fc.tuple(
      ...numbers.map((ticket) =>
        fc.record({
          ticket: fc.constant(ticket),
          session: fc.constantFrom<Session>('self', 'live', 'polls', 'lapsed', 'unknown'),
          shared: fc.boolean(),
        }),
      ),
    ),
  ),
  asks: fc.record({
    owner: fc.oneof({ weight: 3, arbitrary: fc.constant('owner' as const) }, fc.constantFrom('other' as const, null)),
    token: fc.oneof({ weight: 3, arbitrary: fc.constant(5 as const) }, fc.constantFrom(9 as const, null)),
  }),
  failover: fc.oneof({ weight: 4, arbitrary: fc.constant('none' as const) }, fc.constantFrom('quiet', 'unnoticed')),
  afterFailover: fc.boolean(),
})

/** What a hand-off has to come to, in the words of the design. */
const expected = ({ lock, tickets, asks, failover, afterFailover }: State) => {
  const matches = (owner: string, token: number): boolean =>
    owner === asks.owner && (asks.token === null || asks.token === token)
  const own = lock.kind === 'exclusive' && matches('owner', 5)
  const shares = lock.kind === 'shared' ? lock.shares : []
  const ownShare = shares.find(({ owner, token }) => matches(owner, token))
  const others = shares.filter((share) => share !== ownShare && !isOver(share.ends))
  const stands = lock.kind === 'exclusive' && !own && !isOver(lock.ends)
  const isShared = lock.kind === 'shared' && others.length > 0
  const grants = failover === 'none' || (failover === 'quiet' && afterFailover)
  const alive = tickets
    .filter(({ ticket, session }) => ticket > served && isAlive(session))
    .toSorted((one, other) => one.ticket - other.ticket)
  const [head] = alive
  const isServed = grants && !stands && head !== undefined && (head.shared || !isShared)
  const until = alive.findIndex(({ shared }) => !shared)
  const chosen = !isServed ? [] : head.shared ? alive.slice(0, until === -1 ? alive.length : until) : [head]
  const last = chosen.at(-1)
  const isFree = !stands && !isShared
  const kept = shares.filter((share) => !isFree && share !== ownShare).map(({ owner }) => owner)
  return {
    released: own || ownShare !== undefined,
    served: chosen.map(({ ticket, session }) => ({ ticket: String(ticket), session, channel: sessions[session] })),
    holders: {
      exclusive: stands ? 'owner' : last !== undefined && !last.shared ? `o${last.ticket}` : null,
      shared: [...kept, ...chosen.filter(({ shared }) => shared).map(({ ticket }) => `o${ticket}`)].toSorted(),
    },
    line: (isFree && last === undefined && grants) || tickets.length === 0 ? 0 : line,
    tickets: tickets
      .map(({ ticket }) => ticket)
      .filter((ticket) => !grants || (last === undefined ? !isFree : ticket > last.ticket))
      .toSorted((one, other) => one - other),
  }
}

const interval = (seconds: number | null): string =>
  seconds === null ? 'NULL' : `clock_timestamp() + interval '${seconds} seconds'`

const prepare = ({ lock, tickets, failover }: State): string => {
  // The row of a shared key ends with the last of its shares.
  const end =
    lock.kind === 'exclusive' ? lock.ends : lock.kind === 'shared' ? Math.max(...lock.shares.map((s) => s.ends)) : null
  const rows = [
    `INSERT INTO coordination.locks (key, is_acquired, shared, session_id, fencing_token, expires_at, line, served)
     VALUES ('key', ${lock.kind !== 'free'}, ${lock.kind === 'shared'}, ${lock.kind === 'exclusive' ? `'owner'` : 'NULL'}, 5,
       ${interval(end)}, ${tickets.length > 0 ? line : 0}, ${served})`,
    ...(lock.kind === 'shared' ? lock.shares : []).map(
      ({ owner, token, ends: at }) => `INSERT INTO coordination.lock_shares
       (key, session_id, acquired_at, expires_at, fencing_token) VALUES ('key', '${owner}', now(), ${interval(at)}, ${token})`,
    ),
    ...tickets.map(
      ({ ticket, session, shared }) => `INSERT INTO coordination.lock_waiters (key, ticket, session_id, owner, shared)
       VALUES ('key', ${ticket}, '${session}', 'o${ticket}', ${shared})`,
    ),
    failover === 'quiet'
      ? `UPDATE coordination.lock_timeline SET quiet_until = now() + interval '1 hour'`
      : failover === 'unnoticed'
        ? 'UPDATE coordination.lock_timeline SET base = base + 1'
        : '',
  ]
  return rows.join(';')
}

/** The leases that the hand-off gave: all of the claim time, in the order of their tickets. */
const granted = `SELECT owner, token::text, expires_at >= $1::timestamptz + $2 * interval '1 millisecond'
    AND expires_at <= clock_timestamp() + $2 * interval '1 millisecond' AS whole FROM (
  SELECT session_id AS owner, fencing_token AS token, expires_at FROM coordination.locks WHERE is_acquired AND NOT shared
  UNION ALL SELECT session_id, fencing_token, expires_at FROM coordination.lock_shares
) g WHERE owner ~ '^o[0-9]' ORDER BY substr(owner, 2)::int`

/** The row of a shared key ends with the last of its shares, and not before: it is all that an exclusive grant looks at. */
const shownEnd = `SELECT l.expires_at + interval '1 second' >= (SELECT max(s.expires_at) FROM coordination.lock_shares s) AS covers
  FROM coordination.locks l WHERE l.shared AND l.is_acquired`

const outcome = async (way: readonly (readonly [text: string, parameters: number])[], given: State) => {
  const values = [['key'], [given.asks.owner], [given.asks.token], claimMs, marginMs, given.afterFailover, 'self']
  await client.query('BEGIN')
  try {
    await client.query(prepare(given))
    const { rows: before } = await client.query('SELECT clock_timestamp()::text AS at')
    let rows: unknown[][] = []
    for (const [text, parameters] of way) {
      rows = (await client.query<unknown[]>({ text, values: values.slice(0, parameters), rowMode: 'array' })).rows
    }
    const { rows: locks } = await client.query(
      `SELECT CASE WHEN is_acquired AND NOT shared THEN session_id END AS exclusive, line::int AS line,
         is_acquired AND shared AS shared FROM coordination.locks`,
    )
    const shares = await client.query('SELECT session_id FROM coordination.lock_shares ORDER BY 1')
    const { rows: left } = await client.query('SELECT ticket::int AS ticket FROM coordination.lock_waiters ORDER BY 1')
    const { rows: leases } = await client.query(granted, [before[0]?.at, claimMs])
    const { rows: ended } = await client.query(shownEnd)
    const tokens = leases.map(({ token }) => BigInt(token))
    expect(leases.every(({ whole }) => whole === true)).toBe(true)
    expect(tokens.every((token, at) => token > (tokens[at - 1] ?? 2n ** 48n))).toBe(true)
    expect(ended.every(({ covers }) => covers !== false)).toBe(true)
    return {
      released: rows.every(([, released]) => released === true),
      served: rows
        .filter(([, , , ticket]) => ticket !== null)
        .map(([, , session, ticket, channel]) => ({ ticket: String(ticket), session, channel }))
        .toSorted((one, other) => Number(one.ticket) - Number(other.ticket)),
      holders: {
        exclusive: locks[0]?.exclusive ?? null,
        shared: locks[0]?.shared === true ? shares.rows.map(({ session_id }) => session_id) : [],
      },
      line: locks[0]?.line,
      tickets: left.map(({ ticket }) => ticket),
    }
  } finally {
    await client.query('ROLLBACK')
  }
}

it.each([
  {
    what: 'by the function',
    way: [['SELECT * FROM coordination.lock_hand_off($1, $2, $3, $4, $5, $6, $7)', 7]] as const,
  },
  {
    what: 'by two statements',
    way: [
      [handOff.lock.text, 1],
      [handOff.afterwards.text, handOff.parameters],
    ] as const,
  },
])('a hand-off $what does what the design says, whatever it finds', async ({ way }) => {
  await fc.assert(
    fc.asyncProperty(state, async (given) => {
      expect(await outcome(way, given)).toEqual(expected(given))
    }),
    { numRuns: 200 },
  )
})
