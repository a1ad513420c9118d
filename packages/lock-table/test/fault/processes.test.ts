import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { spawnNode, type TestProcess } from '@x/testkit'
import { useDatabase } from '@x/testkit/vitest'
import { expect, it } from 'vitest'
import { z } from 'zod'
import { checkFence, createTableLocker } from '../../src/index.ts'
import { lockTable } from '../support/template.ts'

const database = useDatabase({
  template: {
    name: 'lock_table_written',
    prepare: async (pool) => {
      await lockTable.prepare(pool)
      await pool.query('CREATE TABLE written (value text NOT NULL)')
    },
  },
})

const message = z.object({
  said: z.string(),
  token: z.string().optional(),
  held: z.boolean().optional(),
  aborted: z.boolean().optional(),
  code: z.string().optional(),
})
const holder = (key: string, ttlMs: number): Promise<TestProcess<z.infer<typeof message>>> =>
  spawnNode(new URL('../support/holder.ts', import.meta.url), {
    messages: message,
    args: [database.url, key, String(ttlMs)],
  })

it('a holder that is stopped beyond its lease knows of the loss at once, and its guarded write is refused', async () => {
  await using stopped = await holder('stopped', 1_500)
  await stopped.message(({ said }) => said === 'held')
  stopped.send({ write: 'before' })
  expect(await stopped.message(({ said }) => said === 'wrote')).toMatchObject({ held: true, code: 'none' })
  stopped.pause()

  await using locker = createTableLocker({ connectionString: database.url })
  await using next = await locker.acquire('stopped')
  const client = await database.client()
  await client.query('BEGIN')
  await checkFence(client, { resource: 'stopped', token: next.fencingToken ?? 0n })
  await client.query(`INSERT INTO written VALUES ('successor')`)
  await client.query('COMMIT')

  stopped.send({ write: 'after' })
  stopped.resume()
  const after = await stopped.message(({ said, held }) => said === 'wrote' && held === false)
  expect(after).toMatchObject({ held: false, aborted: true, code: 'STALE_FENCE' })
  const { rows } = await client.query('SELECT value FROM written ORDER BY value')
  expect(rows).toEqual([{ value: 'before' }, { value: 'successor' }])
  expect(next.isHeld()).toBe(true)
  await client.end()
})

it('a holder that is killed is followed when its lease is over, and a waiter that is killed is passed over', async () => {
  await using first = await holder('killed', 2_000)
  await first.message(({ said }) => said === 'held')
  await using dead = await holder('killed', 2_000)
  await dead.message(({ said }) => said === 'ready')
  await using locker = createTableLocker({ connectionString: database.url, pollMs: 100 })
  await expect.poll(async () => (await locker.status('killed')).waiters).toBe(1)
  const waiting = locker.acquire('killed')
  await expect.poll(async () => (await locker.status('killed')).waiters).toBe(2)
  await dead.kill()
  await first.kill()
  const lock = await waiting
  expect(lock.isHeld()).toBe(true)
  const { rows } = await database.pool().query('SELECT count(*)::int AS tickets FROM coordination.lock_waiters')
  expect(rows).toEqual([{ tickets: 0 }])
  await lock.release()
})

it('a process that waits for a release or a refresh does not end before it hears what became of it', async () => {
  const script = fileURLToPath(new URL('../support/release-without-database.ts', import.meta.url))
  const { stdout } = await promisify(execFile)(process.execPath, [script, database.url])
  expect(stdout.trim().split('\n')).toEqual(['refresh CONNECTION', 'release CONNECTION'])
})
