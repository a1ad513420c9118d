import { useDatabase } from '@x/testkit/vitest'
import type { Client } from 'pg'
import { describe, expect, it } from 'vitest'
import { tableNames } from '../../src/names.ts'
import { tableStatements } from '../../src/statements.ts'
import { blocked } from '../support/blocked.ts'
import { lockTable } from '../support/template.ts'

const database = useDatabase({ template: lockTable })
const statements = tableStatements(tableNames('coordination', 'locks'))

/** A key that `holder` holds, and a session that waits for nothing yet. */
const setUp = async (client: Client, key: string): Promise<void> => {
  await client.query(
    `INSERT INTO coordination.locks (key, is_acquired, session_id, fencing_token, expires_at)
     VALUES ($1, true, 'holder', 1, now() + interval '1 hour')`,
    [key],
  )
  await client.query(
    `INSERT INTO coordination.lock_sessions (session_id, expires_at) VALUES ('waiter', now() + interval '1 hour')
     ON CONFLICT DO NOTHING`,
  )
}

const enqueue = (client: Client, key: string): Promise<unknown> =>
  client.query(statements.enqueue.text, [[key], ['grant-of-waiter'], [false], [null], 'name', null, 'waiter', 250])

const stateOf = async (client: Client, key: string): Promise<unknown> => {
  const { rows } = await client.query(
    `SELECT is_acquired, session_id, (SELECT count(*)::int FROM coordination.lock_waiters w WHERE w.key = l.key) AS tickets
     FROM coordination.locks l WHERE key = $1`,
    [key],
  )
  return rows[0]
}

describe('a release while a ticket is not yet committed', () => {
  it('as one statement frees the lock and leaves the waiter in line before it', async () => {
    const [entering, releasing] = [await database.client(), await database.client()]
    await setUp(entering, 'one')
    await entering.query('BEGIN')
    await enqueue(entering, 'one')
    // Locks the row and looks at the line with the snapshot from before it waited for the row.
    const release = releasing.query(
      `WITH row_locked AS (SELECT key FROM coordination.locks WHERE key = 'one' FOR NO KEY UPDATE),
       head AS (
         SELECT w.key, w.owner FROM row_locked r JOIN coordination.lock_waiters w ON w.key = r.key ORDER BY w.ticket LIMIT 1
       )
       UPDATE coordination.locks l SET is_acquired = EXISTS (SELECT FROM head), session_id = (SELECT owner FROM head)
       FROM row_locked r WHERE l.key = r.key`,
    )
    await blocked(entering, releasing)
    await entering.query('COMMIT')
    await release
    expect(await stateOf(releasing, 'one')).toEqual({ is_acquired: false, session_id: null, tickets: 1 })
  })

  it('as our hand-off gives the lock to the waiter', async () => {
    const [entering, releasing] = [await database.client(), await database.client()]
    await setUp(entering, 'two')
    await entering.query('BEGIN')
    await enqueue(entering, 'two')
    const release = releasing.query({
      text: statements.handOff.call.text,
      values: [['two'], ['holder'], ['1'], 60_000, 250, false, ''],
      rowMode: 'array',
    })
    await blocked(entering, releasing)
    await entering.query('COMMIT')
    expect((await release).rows).toEqual([['two', '1', 'waiter', expect.any(String), null]])
    expect(await stateOf(releasing, 'two')).toEqual({ is_acquired: true, session_id: 'grant-of-waiter', tickets: 0 })
  })

  it('as two statements of a transaction gives the lock to the waiter', async () => {
    const [entering, releasing] = [await database.client(), await database.client()]
    await setUp(entering, 'three')
    await entering.query('BEGIN')
    await enqueue(entering, 'three')
    await releasing.query('BEGIN')
    const locked = releasing.query(statements.handOff.lock.text, [['three']])
    await blocked(entering, releasing)
    await entering.query('COMMIT')
    await locked
    await releasing.query(statements.handOff.afterwards.text, [['three'], ['holder'], ['1'], 60_000, 250, false])
    await releasing.query('COMMIT')
    expect(await stateOf(releasing, 'three')).toEqual({ is_acquired: true, session_id: 'grant-of-waiter', tickets: 0 })
  })
})

describe('a ticket that is withdrawn while the lock is handed off', () => {
  it('is served or withdrawn, never both', async () => {
    const [leaving, releasing] = [await database.client(), await database.client()]
    await setUp(leaving, 'four')
    await enqueue(leaving, 'four')
    const { rows } = await leaving.query(`SELECT ticket FROM coordination.lock_waiters WHERE key = 'four'`)
    await releasing.query('BEGIN')
    await releasing.query(statements.handOff.call.text, [['four'], ['holder'], ['1'], 60_000, 250, false, ''])
    const withdrawal = leaving.query(statements.withdraw.text, [['four'], [rows[0].ticket]])
    await blocked(releasing, leaving)
    await releasing.query('COMMIT')
    expect((await withdrawal).rowCount).toBe(0)
    expect(await stateOf(releasing, 'four')).toMatchObject({ session_id: 'grant-of-waiter' })
  })

  it('is not served when its withdrawal came first', async () => {
    const [leaving, releasing] = [await database.client(), await database.client()]
    await setUp(leaving, 'five')
    await enqueue(leaving, 'five')
    const { rows } = await leaving.query(`SELECT ticket FROM coordination.lock_waiters WHERE key = 'five'`)
    await leaving.query('BEGIN')
    await leaving.query(statements.withdraw.text, [['five'], [rows[0].ticket]])
    const release = releasing.query(statements.handOff.call.text, [['five'], ['holder'], ['1'], 60_000, 250, false, ''])
    await blocked(leaving, releasing)
    await leaving.query('COMMIT')
    await release
    expect(await stateOf(releasing, 'five')).toEqual({ is_acquired: false, session_id: null, tickets: 0 })
  })
})
