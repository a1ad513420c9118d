import { lockId } from '@x/lock-core'
import { useDatabase } from '@x/testkit/vitest'
import type { Client } from 'pg'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { lockStatements, step } from '../../src/statements.ts'

const database = useDatabase()
const gate = lockId(0, '')

/** In place of a token: how many locks the session holds at the moment when it is drawn. */
const heldNow = `(SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1 AND granted AND pid = pg_backend_pid())`
const counting = lockStatements(gate, 'order', heldNow)
const plain = lockStatements(gate, 'order', null)

let client: Client
beforeEach(async () => {
  client = await database.client()
  await client.query('SET plan_cache_mode = force_generic_plan')
})
afterEach(() => client.end())

const run = async (statement: { name: string; text: string }, values: unknown[], by = client) =>
  (await by.query<unknown[]>({ ...statement, values, rowMode: 'array' })).rows[0] ?? []

describe('within one statement', () => {
  it('steps run in the order of the array', async () => {
    const { tryExclusive, unlockExclusive } = step
    const ops = [tryExclusive, unlockExclusive, unlockExclusive, tryExclusive, tryExclusive, unlockExclusive]
    const [oks] = await run(plain.exchange, ['{7,7,7,7,7,7}', `{${ops.join(',')}}`])
    // try, unlock, unlock of nothing, try, try again (stacks), unlock one of the two.
    expect(oks).toBe('{t,t,f,t,t,t}')
    expect((await run(plain.release, ['{7}']))[0]).toBe(null)
    expect((await run(plain.release, ['{7}']))[0]).toBe('{7}')
  })

  it('a thousand of them too', async () => {
    const size = 1_000
    const ids = Array.from({ length: size }, (_, index) => index % 10)
    const ops = ids.map((_, index) => (Math.floor(index / 10) % 2 === 0 ? step.tryExclusive : step.unlockExclusive))
    const [oks] = await run(plain.exchange, [`{${ids.join(',')}}`, `{${ops.join(',')}}`])
    expect(oks).toBe(`{${ids.map(() => 't').join(',')}}`)
  })

  it.each(['acquire', 'exchange', 'tryAll'] as const)('the token is drawn after the last grant: %s', async (name) => {
    const ids = '{1,2,3,4,5}'
    const second = { acquire: [], exchange: [`{${Array(5).fill(step.tryExclusive).join(',')}}`], tryAll: ['f'] }[name]
    expect((await run(counting[name], [ids, ...second]))[1]).toBe('5')
  })

  it('the token of one id alone is drawn after its grant', async () => {
    expect(await run(counting.acquireOne, ['1'])).toEqual(['{t}', '1'])
  })

  it.each(['block', 'blockShared'] as const)(
    'the token is drawn after the grant that was waited for: %s',
    async (name) => {
      const holder = await database.client()
      await holder.query('SELECT pg_advisory_lock(6)')
      const blocked = run(counting[name], ['6'])
      const { rows } = await holder.query('SELECT pg_backend_pid() AS pid')
      expect(rows).toHaveLength(1)
      await holder.query('SELECT pg_advisory_unlock(6)')
      expect((await blocked)[0]).toBe('1')
      await holder.end()
    },
  )

  it('no token is drawn when nothing was granted', async () => {
    const holder = await database.client()
    await holder.query('SELECT pg_advisory_lock(8)')
    expect(await run(counting.acquire, ['{8}'])).toEqual(['{f}', null])
    expect(await run(counting.acquireOne, ['8'])).toEqual(['{f}', null])
    expect((await run(counting.exchange, ['{8}', `{${step.tryShared}}`])).slice(0, 2)).toEqual(['{f}', null])
    expect((await run(counting.tryAll, ['{9,8}', 'f'])).slice(0, 2)).toEqual([false, null])
    await holder.end()
  })
})
