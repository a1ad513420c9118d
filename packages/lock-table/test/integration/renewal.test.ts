import { once } from 'node:events'
import { useDatabase } from '@x/testkit/vitest'
import { beforeEach, describe, expect, it } from 'vitest'
import { createTableLocker } from '../../src/index.ts'
import { tableNames } from '../../src/names.ts'
import { tableStatements } from '../../src/statements.ts'
import { lockTable } from '../support/template.ts'

const database = useDatabase({ template: lockTable })
const { renew } = tableStatements(tableNames('coordination', 'locks'))

/** Rows a to e: three that are held, one whose lease is over, one that was released. */
const rows = `INSERT INTO coordination.locks (key, is_acquired, session_id, fencing_token, expires_at)
  SELECT u.key, u.key <> 'e', 'owner/' || u.key, u.position,
    clock_timestamp() + CASE u.key WHEN 'd' THEN -1 ELSE 60 END * interval '1 second'
  FROM unnest(ARRAY['a', 'b', 'c', 'd', 'e']) WITH ORDINALITY AS u (key, position)`

const tokens: Readonly<Record<string, number>> = { a: 1, b: 2, c: 3, d: 4, e: 5 }

describe('a renewal tells which leases it has renewed', () => {
  beforeEach(async () => {
    const pool = database.pool()
    await pool.query('TRUNCATE coordination.locks')
    await pool.query(rows)
  })

  const answers = async (
    keys: readonly string[],
    change: Readonly<Record<string, number>>,
    owners = 'owner/%',
  ): Promise<unknown> => {
    const client = await database.client()
    const said: unknown[] = []
    // By the function, for one ttl and for several, and as it is done where there are none.
    const oneTtl = [keys, keys.map((key) => change[key] ?? tokens[key]), owners, null, 600_000, false]
    const severalTtls = oneTtl
      .with(
        3,
        keys.map((_, index) => 600_000 + index),
      )
      .with(4, null)
    for (const { text, values } of [
      { text: renew.call.text, values: oneTtl },
      { text: renew.call.text, values: severalTtls },
      { text: renew.afterwards.text, values: oneTtl },
    ]) {
      await client.query('BEGIN')
      const answer = await client.query({ text, values, rowMode: 'array' })
      const { rows: longer } = await client.query(
        `SELECT key FROM coordination.locks WHERE expires_at > clock_timestamp() + interval '5 minutes' ORDER BY key`,
      )
      said.push({ answer: answer.rows[0]?.[0], renewed: longer.map(({ key }) => key) })
      await client.query('ROLLBACK')
    }
    await client.end()
    return said
  }

  it('all of them', async () => {
    expect(await answers(['a', 'b', 'c'], {})).toEqual([
      { answer: 'all', renewed: ['a', 'b', 'c'] },
      { answer: 'all', renewed: ['a', 'b', 'c'] },
      { answer: '{1,2,3}', renewed: ['a', 'b', 'c'] },
    ])
  })

  it('none that somebody else has taken, whatever token it bears', async () => {
    const renewed = ['a', 'c']
    await database.pool().query(`UPDATE coordination.locks SET session_id = 'somebody/b' WHERE key = 'b'`)
    expect(await answers(['a', 'b', 'c'], {})).toEqual(Array(3).fill({ answer: '{1,3}', renewed }))
  })

  it.each([
    { what: 'one is over', keys: ['a', 'c', 'd'], change: {}, answer: '{1,2}', renewed: ['a', 'c'] },
    { what: 'one was released', keys: ['b', 'e'], change: {}, answer: '{1}', renewed: ['b'] },
    { what: 'one has another token', keys: ['a', 'b', 'c'], change: { b: 9 }, answer: '{1,3}', renewed: ['a', 'c'] },
    { what: 'one has no row', keys: ['a', 'z'], change: { z: 1 }, answer: '{1}', renewed: ['a'] },
    { what: 'none is held', keys: ['d', 'e'], change: {}, answer: null, renewed: [] },
  ])('$what', async ({ keys, change, answer, renewed }) => {
    expect(await answers(keys, change)).toEqual(Array(3).fill({ answer, renewed }))
  })
})

it('that gets no client of the pool warns, and the loss says so', async () => {
  const pool = database.pool({ max: 1 })
  const warned: [fields: object, message: string][] = []
  const logger = { debug() {}, info() {}, warn: (...told: [object, string]) => void warned.push(told), error() {} }
  // Long enough that an attempt fails before the lease is over, on a busy machine too.
  await using locker = createTableLocker({ pool, logger, ttlMs: 2_000, wakeUps: 'poll' })
  const { signal } = await locker.acquire('report')
  const client = await pool.connect()
  await once(signal, 'abort')
  const noClient = expect.objectContaining({
    code: 'CONNECTION',
    message: expect.stringMatching(/the pool gave no client within .+ \(1 open, .+\); give it a larger max/),
  })
  expect(signal.reason).toMatchObject({
    code: 'LOCK_LOST',
    reason: 'deadline',
    message: expect.stringContaining('the pool gave no client'),
    cause: noClient,
  })
  expect(warned).toContainEqual([
    expect.objectContaining({ err: noClient, leases: 1 }),
    'a renewal had no answer and is sent again',
  ])
  client.release()
})
