import { useDatabase } from '@x/testkit/vitest'
import type { Client } from 'pg'
import { describe, expect, it } from 'vitest'
import { tableNames } from '../../src/names.ts'
import { tableStatements } from '../../src/statements.ts'
import { blocked } from '../support/blocked.ts'
import { grantWays, holderSql } from '../support/grant-ways.ts'
import { lockTable } from '../support/template.ts'

const database = useDatabase({ template: lockTable })
const { grant, grantShared, release } = tableStatements(tableNames('coordination', 'locks'))

const tokenOf = async (client: Client, key: string): Promise<bigint> => {
  const { rows } = await client.query('SELECT fencing_token FROM coordination.locks WHERE key = $1', [key])
  return BigInt(rows[0].fencing_token)
}

/** Grant A waits for a row that B has granted and gives back: A is granted later and must have the higher token. */
it('a token drawn before the row is ours can be lower than that of an earlier grant', async () => {
  const [a, b] = [await database.client(), await database.client()]
  await b.query(`INSERT INTO coordination.locks (key) VALUES ('early')`)
  const early = `INSERT INTO coordination.locks AS l (key, is_acquired, fencing_token)
    VALUES ('early', true, nextval('coordination.fencing_tokens'))
    ON CONFLICT (key) DO UPDATE SET is_acquired = true, fencing_token = excluded.fencing_token WHERE NOT l.is_acquired`
  await b.query('BEGIN')
  await b.query(`SELECT FROM coordination.locks WHERE key = 'early' FOR UPDATE`)
  const later = a.query(early)
  await blocked(b, a)
  await b.query(early)
  const first = await tokenOf(b, 'early')
  await b.query(`UPDATE coordination.locks SET is_acquired = false WHERE key = 'early'`)
  await b.query('COMMIT')
  await later
  expect(await tokenOf(a, 'early')).toBeLessThan(first)
})

/** What somebody else is granted meanwhile. */
const exclusive = (key: string, owner: string): { text: string; values: unknown[] } => ({
  text: grant.text,
  values: [[key], [owner], [30_000], [null], 'name', null, 250, false],
})

const holderOf = async (client: Client, key: string): Promise<unknown> =>
  (await client.query(holderSql, [key])).rows[0]?.holder

describe.each(Object.entries(grantWays))('%s', (name, grantTo) => {
  it('draws the token when the row is ours', async () => {
    const [a, b] = [await database.client(), await database.client()]
    await b.query('INSERT INTO coordination.locks (key) VALUES ($1)', [name])
    await b.query('BEGIN')
    await b.query('SELECT FROM coordination.locks WHERE key = $1 FOR UPDATE', [name])
    const later = a.query(grantTo(name, 'a'))
    await blocked(b, a)
    await b.query(exclusive(name, 'b'))
    const first = await tokenOf(b, name)
    await b.query(release.text, [[name], ['b'], [String(first)], 'off'])
    await b.query('COMMIT')
    await later
    expect(await tokenOf(a, name)).toBeGreaterThan(first)
    expect(await holderOf(a, name)).toBe('a')
  })

  it('takes nothing from who was granted the row meanwhile', async () => {
    const [a, b] = [await database.client(), await database.client()]
    const key = `taken/${name}`
    await b.query('INSERT INTO coordination.locks (key) VALUES ($1)', [key])
    await b.query('BEGIN')
    await b.query(exclusive(key, 'b'))
    const later = a.query(grantTo(key, 'a'))
    await blocked(b, a)
    await b.query('COMMIT')
    await later
    expect(await holderOf(a, key)).toBe('b')
  })

  it('takes nothing from who made the row meanwhile', async () => {
    const [a, b] = [await database.client(), await database.client()]
    const key = `made/${name}`
    await b.query('BEGIN')
    await b.query(exclusive(key, 'b'))
    const later = a.query(grantTo(key, 'a'))
    await blocked(b, a)
    await b.query('COMMIT')
    await later
    expect(await holderOf(a, key)).toBe('b')
  })

  it.each(['stands in line', 'enters the line of a lease that ends while the row is waited for'])(
    'does not overtake who %s',
    async (who) => {
      const [a, b] = [await database.client(), await database.client()]
      const key = `${who}/${name}`
      await b.query(
        `INSERT INTO coordination.locks (key, is_acquired, session_id, fencing_token, expires_at)
         VALUES ($1, true, 'b', 1, now() - interval '1 hour')`,
        [key],
      )
      await b.query('BEGIN')
      await b.query('UPDATE coordination.locks SET line = 7 WHERE key = $1', [key])
      if (who === 'stands in line') {
        await b.query('COMMIT')
        await a.query(grantTo(key, 'a'))
      } else {
        const later = a.query(grantTo(key, 'a'))
        await blocked(b, a)
        await b.query('COMMIT')
        await later
      }
      expect(await holderOf(a, key)).toBe('b')
    },
  )
})

it('a grant that is asked for again has the same token, and one of another owner is refused', async () => {
  const client = await database.client()
  const ask = async (owner: string): Promise<unknown[]> =>
    (
      await client.query({
        text: grant.text,
        values: [['again'], [owner], [30_000], [null], 'name', null, 250, false],
        rowMode: 'array',
      })
    ).rows.map((row: unknown[]) => row[2])
  const [first] = await ask('me')
  expect(await ask('me')).toEqual([first])
  expect(await ask('other')).toEqual([])
})

it.each(['exclusive', 'shared'] as const)(
  'an attempt that arrives after the one that repeats it does not shorten the lease (%s)',
  async (mode) => {
    const [a, b] = [await database.client(), await database.client()]
    const key = `twice/${mode}`
    await b.query('INSERT INTO coordination.locks (key) VALUES ($1)', [key])
    const { text } = mode === 'exclusive' ? grant : grantShared
    const ask = (client: Client, ttlMs: number): Promise<unknown> =>
      client.query(text, [[key], ['me'], [ttlMs], [null], 'name', null, 250, false])
    await b.query('BEGIN')
    await b.query('SELECT FROM coordination.locks WHERE key = $1 FOR UPDATE', [key])
    // The ttl stands for the time by which it was sent earlier.
    const early = ask(a, 10_000)
    await blocked(b, a)
    await ask(b, 30_000)
    await b.query('COMMIT')
    await early
    const whole = async (table: string): Promise<unknown[]> =>
      (
        await a.query(
          `SELECT expires_at > clock_timestamp() + interval '20 seconds' AS whole FROM coordination.${table} WHERE key = $1`,
          [key],
        )
      ).rows
    expect(await whole('locks')).toEqual([{ whole: true }])
    if (mode === 'shared') expect(await whole('lock_shares')).toEqual([{ whole: true }])
  },
)
