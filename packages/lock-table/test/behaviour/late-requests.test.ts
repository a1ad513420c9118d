import { useDatabase } from '@x/testkit/vitest'
import type { Client } from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { tableNames } from '../../src/names.ts'
import { tableStatements } from '../../src/statements.ts'
import { lockTable } from '../support/template.ts'

const database = useDatabase({ template: lockTable })
const s = tableStatements(tableNames('coordination', 'locks'))
let client: Client
beforeAll(async () => {
  client = await database.client()
})
afterAll(() => client.end())

interface Request {
  readonly text: string
  /** For the grant that it names. */
  values(owner: string, token: number): unknown[]
  /** What it answers when it has touched nothing. */
  readonly none: readonly (readonly unknown[])[]
}

const handOff = (owner: string, token: number): unknown[] => [['key'], [owner], [token], 2_000, 250, false]
const renewal = (owner: string, token: number): unknown[] => [['key'], [token], `${owner}%`, null, 60_000, true]
const several = (owner: string, token: number): unknown[] => [['key'], [token], `${owner}%`, [60_000], null, true]
const shares = (owner: string, token: number): unknown[] => [['key'], [owner], [token], null, 60_000, true]
const one = (owner: string, token: number): unknown[] => ['key', owner, token]

const releases: Readonly<Record<string, Request>> = {
  'a release': { text: s.releaseOne.text, values: (...of) => [...one(...of), 'off'], none: [] },
  'a release of many': {
    text: s.releaseMany.text,
    values: (owner, token) => [['key'], [token], `${owner}%`, 'off'],
    none: [[null]],
  },
  'a release of many without our functions': {
    text: s.release.text,
    values: (owner, token) => [['key'], [owner], [token], 'off'],
    none: [],
  },
}
const handOffs: Readonly<Record<string, Request>> = {
  'a hand-off': {
    text: s.handOff.call.text,
    values: (...of) => [...handOff(...of), 'me'],
    none: [['key', '0', null, null, null]],
  },
  'a hand-off without our functions': {
    text: s.handOff.afterwards.text,
    values: handOff,
    none: [['key', false, null, null, null]],
  },
}
const prolonging: Readonly<Record<string, Request>> = {
  'a release after a while': { text: s.keep.text, values: (...of) => [...one(...of), 60_000], none: [] },
  'a renewal': { text: s.renew.call.text, values: renewal, none: [[null]] },
  'a renewal of several ttls': { text: s.renew.call.text, values: several, none: [[null]] },
  'a renewal without our functions': { text: s.renew.afterwards.text, values: renewal, none: [[null]] },
}
const shared: Readonly<Record<string, Request>> = {
  'a shared release after a while': { text: s.keepShare.text, values: (...of) => [...one(...of), 60_000], none: [] },
  'a shared renewal': { text: s.renewShares.call.text, values: shares, none: [[null]] },
  'a shared renewal without our functions': { text: s.renewShares.afterwards.text, values: shares, none: [[null]] },
}

const row = `INSERT INTO coordination.locks (key, is_acquired, session_id, fencing_token, expires_at)
  VALUES ('key', true, 'owner', 5, now() + interval '1 hour')`
const share = `INSERT INTO coordination.locks (key, is_acquired, shared, fencing_token, expires_at)
  VALUES ('key', true, true, 5, now() + interval '1 hour');
  INSERT INTO coordination.lock_shares (key, session_id, acquired_at, expires_at, fencing_token)
  VALUES ('key', 'owner', now(), now() + interval '1 hour', 5)`

/** Runs the request on the rows, and undoes all of it. */
const touched = async (prepare: string, request: Request, owner = 'owner', token = 5) => {
  const state = async (): Promise<unknown> => {
    const { rows } = await client.query(`SELECT (SELECT json_agg(l) FROM coordination.locks l) AS locks,
      (SELECT json_agg(s) FROM coordination.lock_shares s) AS shares`)
    return rows[0]
  }
  await client.query('BEGIN')
  try {
    await client.query(prepare)
    const before = await state()
    const { text } = request
    const { rows } = await client.query({ text, values: request.values(owner, token), rowMode: 'array' })
    return { before, after: await state(), rows }
  } finally {
    await client.query('ROLLBACK')
  }
}

const touchesNothing = async (...[prepare, request, owner, token]: Parameters<typeof touched>): Promise<void> => {
  const { before, after, rows } = await touched(prepare, request, owner, token)
  expect(after).toEqual(before)
  expect(rows).toEqual(request.none)
}

describe.each(Object.entries({ ...releases, ...handOffs, ...prolonging }))('%s', (_, request) => {
  it('does its work on its own grant', async () => {
    const { before, after, rows } = await touched(row, request)
    expect(after).not.toEqual(before)
    expect(rows).not.toEqual(request.none)
  })

  it.each([
    { whose: 'a later grant of the same process', owner: 'owner', token: 4 },
    { whose: 'somebody who left our token in the row', owner: 'other', token: 5 },
  ])('touches nothing of $whose', ({ owner, token }) => touchesNothing(row, request, owner, token))
})

describe.each(Object.entries({ ...releases, ...prolonging }))('%s', (_, request) => {
  it('touches nothing that a classic writer has freed, who left the names in the row', () =>
    touchesNothing(`${row}; UPDATE coordination.locks SET is_acquired = false`, request))
})

describe.each(Object.entries({ ...releases, ...handOffs }))('%s', (_, request) => {
  // An end of the lease that stayed would be that of whoever writes the row next and knows nothing of leases.
  it('leaves nothing of the holder in the row', async () => {
    const prepare = `${row}; UPDATE coordination.locks SET acquirer_name = 'name', acquirer_address = 'address',
      acquired_at = now(), metadata = '{"of": "owner"}'`
    const { after } = await touched(prepare, request)
    expect(after).toEqual({
      shares: null,
      locks: [
        {
          key: 'key',
          is_acquired: false,
          shared: false,
          session_id: null,
          acquirer_name: null,
          acquirer_address: null,
          acquired_at: null,
          expires_at: null,
          metadata: null,
          line: 0,
          served: 0,
          fencing_token: 5,
          released_at: expect.any(String),
        },
      ],
    })
  })
})

describe.each(Object.entries(releases))('%s', (_, request) => {
  it('leaves a key with a line to the hand-off', () =>
    touchesNothing(`${row}; UPDATE coordination.locks SET line = 7`, request))
})

describe.each(Object.entries(prolonging))('%s', (_, request) => {
  it('does not bring back a lease that is over', () =>
    touchesNothing(`${row}; UPDATE coordination.locks SET expires_at = now() - interval '1 second'`, request))
})

describe.each(Object.entries(shared))('%s', (_, request) => {
  it('does its work on its own grant', async () => {
    const { before, after, rows } = await touched(share, request)
    expect(after).not.toEqual(before)
    expect(rows).not.toEqual(request.none)
  })

  it.each([
    { whose: 'another grant of the same owner', owner: 'owner', token: 4 },
    { whose: 'another holder', owner: 'other', token: 5 },
  ])('touches nothing of $whose', ({ owner, token }) => touchesNothing(share, request, owner, token))

  it('does not bring back a lease that is over', () =>
    touchesNothing(`${share}; UPDATE coordination.lock_shares SET expires_at = now() - interval '1 second'`, request))
})

describe.each(Object.entries(shared).filter(([name]) => name.includes('renewal')))('%s', (_, request) => {
  it.each([
    { what: 'is exclusive by now', change: `shared = false, session_id = 'other'` },
    { what: 'was freed', change: 'is_acquired = false' },
  ])('touches nothing of a key that $what', ({ change }) =>
    touchesNothing(`${share}; UPDATE coordination.locks SET ${change}`, request),
  )

  it('keeps the key taken for as long as its longest lease, and no longer', async () => {
    const end = `SELECT s.expires_at = l.expires_at AS same, l.expires_at > now() + interval '30 seconds' AS longer
      FROM coordination.locks l, coordination.lock_shares s`
    for (const [seconds, same] of [
      [1, true],
      [3_600, false],
    ]) {
      await client.query('BEGIN')
      await client.query(share)
      await client.query(`UPDATE coordination.lock_shares SET expires_at = now() + interval '1 second'`)
      await client.query(`UPDATE coordination.locks SET expires_at = now() + interval '${seconds} seconds'`)
      await client.query(request.text, request.values('owner', 5))
      expect((await client.query(end)).rows).toEqual([{ same, longer: true }])
      await client.query('ROLLBACK')
    }
  })
})

describe.each([
  { what: 'a renewal', table: 'locks', rows: row, text: s.renew.call.text, values: renewal },
  { what: 'a renewal of several ttls', table: 'locks', rows: row, text: s.renew.call.text, values: several },
  { what: 'a renewal, without functions', table: 'locks', rows: row, text: s.renew.afterwards.text, values: renewal },
  { what: 'a shared one', table: 'lock_shares', rows: share, text: s.renewShares.call.text, values: shares },
  {
    what: 'a shared one, without functions',
    table: 'lock_shares',
    rows: share,
    text: s.renewShares.afterwards.text,
    values: shares,
  },
])('$what that comes after a longer one', ({ table, rows, text, values }) => {
  it.each([
    { kind: 'by the timer does not shorten the lease', exact: false, hour: true },
    { kind: 'by the holder does', exact: true, hour: false },
  ])('$kind', async ({ exact, hour }) => {
    await client.query('BEGIN')
    await client.query(rows)
    await client.query(text, values('owner', 5).with(5, exact))
    const left = await client.query(
      `SELECT expires_at > now() + interval '30 minutes' AS hour FROM coordination.${table}`,
    )
    expect(left.rows).toEqual([{ hour }])
    await client.query('ROLLBACK')
  })
})
