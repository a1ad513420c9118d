import { lockId } from '@x/lock-core'
import { useDatabase } from '@x/testkit/vitest'
import type { Client } from 'pg'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { lockStatements, step } from '../../src/statements.ts'

const database = useDatabase()
const gate = lockId(0, '')

let client: Client

beforeEach(async () => {
  client = await database.client()
  await client.query('CREATE SEQUENCE IF NOT EXISTS token')
  await client.query('SET plan_cache_mode = force_generic_plan')
})
afterEach(() => client.end())

/** How often each id is held by the session: unlocks until the server says that it was not held. */
async function depth(id: number): Promise<number> {
  for (let times = 0; ; times += 1) {
    const { rows } = await client.query<{ ok: boolean }>('SELECT pg_advisory_unlock($1) AS ok', [id])
    if (rows[0]?.ok !== true) return times
  }
}

const run = (statement: { name: string; text: string }, values: unknown[]) =>
  client.query({ ...statement, values, rowMode: 'array' })

describe.each([
  ['without tokens', null],
  ['with a sequence', "nextval('public.token')"],
  ['with transaction ids', 'pg_current_xact_id()::text::int8'],
])('a lock function runs once for each id, %s', (_name, drawToken) => {
  const statements = lockStatements(gate, 'channel', drawToken)
  const ids = [1, 2, 3, 4, 5]
  const list = `{${ids.join(',')}}`

  it('in acquire', async () => {
    for (const times of [1, 2])
      expect((await run(statements.acquire, [list])).rows[0]?.[0], `${times}`).toBe('{t,t,t,t,t}')
    for (const id of ids) expect(await depth(id)).toBe(2)
  })

  it('in those for one id alone', async () => {
    for (const times of [1, 2, 3])
      expect((await run(statements.acquireOne, ['9'])).rows[0]?.[0], `${times}`).toBe('{t}')
    expect((await run(statements.releaseOne, ['9'])).rows[0]?.[0]).toBe(null)
    expect(await depth(9)).toBe(2)
  })

  it('in exchange, in both modes, and once in each unlock', async () => {
    await run(statements.exchange, [list, `{${ids.map(() => step.tryExclusive).join(',')}}`])
    await run(statements.exchange, [list, `{${ids.map(() => step.tryExclusive).join(',')}}`])
    await run(statements.exchange, [list, `{${ids.map(() => step.unlockExclusive).join(',')}}`])
    for (const id of ids) expect(await depth(id)).toBe(1)
  })

  it('in release', async () => {
    for (let times = 0; times < 3; times += 1) await run(statements.acquire, [list])
    await run(statements.release, [list])
    for (const id of ids) expect(await depth(id)).toBe(2)
  })

  it('in tryAll, and its undoing leaves exactly what was there before', async () => {
    expect((await run(statements.tryAll, [list, 'f'])).rows[0]?.[0]).toBe(true)
    for (const id of ids) expect(await depth(id)).toBe(1)
    const other = await database.client()
    await other.query('SELECT pg_advisory_lock(3)')
    await run(statements.acquire, ['{1}'])
    expect((await run(statements.tryAll, [list, 'f'])).rows[0]?.[0]).toBe(false)
    expect(await depth(1)).toBe(1)
    for (const id of [2, 4, 5]) expect(await depth(id)).toBe(0)
    await other.end()
  })

  it('in block', async () => {
    await run(statements.block, ['9'])
    expect(await depth(9)).toBe(1)
  })
})
