import { useDatabase } from '@x/testkit/vitest'
import type { Client } from 'pg'
import { beforeEach, describe, expect, it } from 'vitest'
import { tableNames } from '../../src/names.ts'
import { tableStatements } from '../../src/statements.ts'
import { blocked } from '../support/blocked.ts'
import { lockTable } from '../support/template.ts'

const database = useDatabase({ template: lockTable })
const { enqueue, grantAll, grantAllShared, releaseMany, renew } = tableStatements(tableNames('coordination', 'locks'))

/** What becomes of the row in the middle while a statement for all three waits for it. */
const changes: Record<string, (client: Client) => Promise<unknown>> = {
  'somebody entered its line': (client) =>
    client.query(enqueue.text, [['b'], ['grant'], [false], [null], 'name', null, 'waiter', 250]),
  'it was taken by force': (client) =>
    client.query(`UPDATE coordination.locks SET is_acquired = false, released_at = now() WHERE key = 'b'`),
  'its lease was refused further renewals': (client) =>
    client.query(`UPDATE coordination.locks SET session_id = NULL WHERE key = 'b'`),
  'it was granted anew': (client) => client.query(`UPDATE coordination.locks SET fencing_token = 9 WHERE key = 'b'`),
  'a classic writer took it': (client) =>
    client.query(`UPDATE coordination.locks SET session_id = 'classic', expires_at = NULL WHERE key = 'b'`),
  'nothing did': (client) => client.query(`SELECT FROM coordination.locks WHERE key = 'b' FOR UPDATE`),
}

const whoeverCame = 'somebody entered its line'

describe.each(Object.entries(changes))('a row that a statement waited for: %s', (what, change) => {
  beforeEach(async () => {
    await database.pool().query('TRUNCATE coordination.locks, coordination.lock_waiters')
    await database.pool().query(
      `INSERT INTO coordination.locks (key, is_acquired, session_id, fencing_token, expires_at)
       SELECT k, true, 'owner', ascii(k) - 96, now() + interval '1 hour' FROM unnest(ARRAY['a', 'b', 'c']) k`,
    )
  })

  const whileItWaits = async (statement: { text: string; values: unknown[] }): Promise<unknown[]> => {
    const [first, second] = [await database.client(), await database.client()]
    await first.query('BEGIN')
    await change(first)
    const answer = second.query({ ...statement, rowMode: 'array' })
    await blocked(first, second)
    await first.query('COMMIT')
    const { rows } = await answer
    await Promise.all([first.end(), second.end()])
    return rows
  }
  const asked = [['a', 'b', 'c'], [1, 2, 3], 'own%']

  it('a release leaves it, and frees the others', async () => {
    const answer = await whileItWaits({ text: releaseMany.text, values: [...asked, 'off'] })
    expect(answer).toEqual([[what === 'nothing did' ? 'all' : '{1,3}']])
    const { rows } = await database
      .pool()
      .query('SELECT key FROM coordination.locks WHERE released_at IS NOT NULL AND session_id IS NULL ORDER BY key')
    expect(rows.map(({ key }) => key)).toEqual(what === 'nothing did' ? ['a', 'b', 'c'] : ['a', 'c'])
  })

  it('a renewal leaves it, unless it is still ours, and renews the others', async () => {
    const answer = await whileItWaits({ text: renew.call.text, values: [...asked, null, 86_400_000, false] })
    const ours = what === 'nothing did' || what === whoeverCame
    expect(answer).toEqual([[ours ? 'all' : '{1,3}']])
    const { rows } = await database
      .pool()
      .query(`SELECT key FROM coordination.locks WHERE expires_at > now() + interval '2 hours' ORDER BY key`)
    expect(rows.map(({ key }) => key)).toEqual(ours ? ['a', 'b', 'c'] : ['a', 'c'])
  })
})

it.each([
  { what: 'exclusive', text: grantAll.text },
  { what: 'shared', text: grantAllShared.text },
])('a grant of all or none undoes itself when one of the keys was taken while it waited ($what)', async ({ text }) => {
  await database.pool().query('TRUNCATE coordination.locks, coordination.lock_shares')
  await database.pool().query(`INSERT INTO coordination.locks (key) SELECT unnest(ARRAY['a', 'b', 'c'])`)
  const [first, second] = [await database.client(), await database.client()]
  await first.query('BEGIN')
  await first.query(
    `UPDATE coordination.locks SET is_acquired = true, session_id = 'other', expires_at = now() + interval '1 hour' WHERE key = 'b'`,
  )
  const keys = ['a', 'b', 'c']
  const values = [keys, keys.map(() => 'owner'), keys.map(() => 30_000), keys.map(() => null), 'name', null, 250, false]
  const undone = expect(second.query(text, values)).rejects.toMatchObject({ code: '22012' })
  await blocked(first, second)
  await first.query('COMMIT')
  await undone
  const { rows } = await first.query('SELECT key, session_id FROM coordination.locks WHERE is_acquired')
  expect(rows).toEqual([{ key: 'b', session_id: 'other' }])
  await Promise.all([first.end(), second.end()])
})
