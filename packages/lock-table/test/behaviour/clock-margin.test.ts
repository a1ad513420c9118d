import { useDatabase } from '@x/testkit/vitest'
import type { Client } from 'pg'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { tableNames } from '../../src/names.ts'
import { tableStatements } from '../../src/statements.ts'
import { blocked } from '../support/blocked.ts'
import { grantWays, holderSql } from '../support/grant-ways.ts'
import { lockTable } from '../support/template.ts'

const database = useDatabase({ template: lockTable })
const s = tableStatements(tableNames('coordination', 'locks'))
const clients: Client[] = []
const pick = (index: number): Client => {
  const client = clients[index]
  if (client === undefined) throw new RangeError(`expected client ${index}`)
  return client
}

beforeAll(async () => {
  clients.push(await database.client(), await database.client())
  await pick(0).query(`INSERT INTO coordination.lock_sessions VALUES ('session', NULL, now() + interval '1 hour')`)
})
afterAll(() => Promise.all(clients.map((client) => client.end())))
beforeEach(() => pick(0).query('TRUNCATE coordination.locks, coordination.lock_shares, coordination.lock_waiters'))

/** A lease that was over a second ago. */
const lapsed = `INSERT INTO coordination.locks (key, is_acquired, session_id, fencing_token, expires_at)
  VALUES ('key', true, 'holder', 1, now() - interval '1 second')`
const lapsedShares = `INSERT INTO coordination.locks (key, is_acquired, shared, fencing_token, expires_at)
  VALUES ('key', true, true, 1, now() - interval '1 second')`

interface Query {
  readonly text: string
  readonly values: unknown[]
}

// The server's clock may step forward by as much, and the holder still believes in its lease then.
describe.each(Object.entries(grantWays))('a lease that is over by less than the margin: %s', (_, grantTo) => {
  it.each([
    { marginMs: 60_000, holder: 'holder' },
    { marginMs: 0, holder: 'me' },
  ])('$marginMs ms: it is of $holder', async ({ marginMs, holder }) => {
    await pick(0).query(lapsed)
    await pick(0).query(grantTo('key', 'me', marginMs))
    expect((await pick(0).query(holderSql, ['key'])).rows).toEqual([{ holder }])
  })

  it.each([
    { marginMs: 60_000, holder: 'holder' },
    { marginMs: 0, holder: 'me' },
  ])(
    '$marginMs ms, and it was granted while the row was waited for: it is of $holder',
    async ({ marginMs, holder }) => {
      await pick(0).query(`INSERT INTO coordination.locks (key) VALUES ('key')`)
      await pick(0).query('BEGIN')
      await pick(0).query(
        `UPDATE coordination.locks SET is_acquired = true, session_id = 'holder', expires_at = now() - interval '1 second'`,
      )
      const granted = pick(1).query(grantTo('key', 'me', marginMs))
      await blocked(pick(0), pick(1))
      await pick(0).query('COMMIT')
      await granted
      expect((await pick(0).query(holderSql, ['key'])).rows).toEqual([{ holder }])
    },
  )
})

const ticket = `UPDATE coordination.locks SET line = 7;
  INSERT INTO coordination.lock_waiters (key, ticket, session_id, owner, shared) VALUES ('key', 7, 'session', 'me', false)`
const check = (marginMs: number): Query => ({
  text: s.handOff.call.text,
  values: [['key'], [null], [null], 30_000, marginMs, false, 'session'],
})

describe.each([
  { marginMs: 60_000, isHeld: true },
  { marginMs: 0, isHeld: false },
])('a lease that is over by a second, with a margin of $marginMs ms', ({ marginMs, isHeld }) => {
  it('is handed off, or not yet', async () => {
    await pick(0).query(lapsed)
    await pick(0).query(ticket)
    await pick(0).query(check(marginMs))
    expect((await pick(0).query(holderSql, ['key'])).rows).toEqual([{ holder: isHeld ? 'holder' : 'me' }])
  })

  it('of a shared holder is handed off, or not yet', async () => {
    await pick(0).query(lapsedShares)
    await pick(0).query(`INSERT INTO coordination.lock_shares (key, session_id, acquired_at, expires_at, fencing_token)
      VALUES ('key', 'holder', now(), now() - interval '1 second', 1)`)
    await pick(0).query(ticket)
    // The row of the key says more than its shares, as after a holder whose lease was longer has gone.
    await pick(0).query(`UPDATE coordination.locks SET expires_at = now() + interval '1 hour'`)
    await pick(0).query(check(marginMs))
    expect((await pick(0).query(holderSql, ['key'])).rows).toEqual([{ holder: isHeld ? 'holder' : 'me' }])
  })

  it.each([
    { look: 'of one who waits alone', text: s.lookOne.text, values: ['key', 7, 'me'] },
    { look: 'of many', text: s.look.text, values: [['key'], [7], ['me'], [false]] },
  ])('is due, or not yet, to a look $look', async ({ text, values }) => {
    await pick(0).query(lapsed)
    await pick(0).query(ticket)
    const { rows } = await pick(0).query({ text, values: [...values, marginMs], rowMode: 'array' })
    expect(rows[0]?.[5]).toBe(isHeld ? '0' : '1')
    expect(Number(rows[0]?.[6]) > 0).toBe(isHeld)
  })

  it('has a line, or is free', async () => {
    await pick(0).query(lapsed)
    const values = [['key'], ['me'], [false], [null], 'name', null, 'session', marginMs]
    expect((await pick(0).query(s.enqueue.text, values)).rowCount).toBe(isHeld ? 1 : 0)
  })

  it.each([
    { peek: 'one key', text: s.peekOne.text, key: 'key' },
    { peek: 'many', text: s.peek.text, key: ['key'] },
  ])('is held, or not, to a look at $peek', async ({ text, key }) => {
    await pick(0).query(lapsed)
    expect((await pick(0).query(text, [key, marginMs])).rowCount).toBe(isHeld ? 1 : 0)
  })
})
