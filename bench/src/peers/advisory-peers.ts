import { lockId } from '@x/lock-core'
import advisoryLock from 'advisory-lock'
import { Client, Pool } from 'pg'
import type { OpenPairMaker } from './pair.ts'

/** The floor: the two round trips that a session lock cannot avoid, as named statements on one connection. */
export const bareStatements: OpenPairMaker = async ({ url }) => {
  const client = new Client({ connectionString: url })
  await client.connect()
  return {
    async pair(key) {
      const values = [String(lockId(0, key))]
      await client.query({ name: 'lock', text: 'SELECT pg_try_advisory_lock($1)', values, rowMode: 'array' })
      await client.query({ name: 'unlock', text: 'SELECT pg_advisory_unlock($1)', values, rowMode: 'array' })
    },
    close: () => client.end(),
  }
}

/** The floor for many: two statements over an array of all ids. `pair` collects what is asked for in one turn. */
export const bareArrays: OpenPairMaker = async ({ url }) => {
  const client = new Client({ connectionString: url })
  await client.connect()
  let batch: { ids: string[]; done: Promise<void> } | null = null
  const run = async (collected: { ids: string[] }): Promise<void> => {
    await Promise.resolve()
    batch = null
    const values = [`{${collected.ids.join(',')}}`]
    const text = 'FROM unnest($1::bigint[]) AS id'
    await client.query({ name: 'lock', text: `SELECT id, pg_try_advisory_lock(id) ${text}`, values, rowMode: 'array' })
    await client.query({ name: 'unlock', text: `SELECT id, pg_advisory_unlock(id) ${text}`, values, rowMode: 'array' })
  }
  return {
    pair(key) {
      if (batch === null) {
        const collected = { ids: [], done: Promise.resolve() }
        batch = collected
        collected.done = run(collected)
      }
      batch.ids.push(String(lockId(0, key)))
      return batch.done
    },
    close: () => client.end(),
  }
}

/** What most people write: a pooled connection for each lock, held as long as the lock. */
export const connectionPerLock: OpenPairMaker = async ({ url }) => {
  const pool = new Pool({ connectionString: url, max: 10 })
  return {
    async pair(key) {
      const client = await pool.connect()
      try {
        const values = [String(lockId(0, key))]
        await client.query({ name: 'lock', text: 'SELECT pg_try_advisory_lock($1)', values })
        await client.query({ name: 'unlock', text: 'SELECT pg_advisory_unlock($1)', values })
      } finally {
        client.release()
      }
    },
    close: () => pool.end(),
  }
}

/** npm `advisory-lock`: a new connection for each acquire. */
export const npmAdvisoryLock: OpenPairMaker = async ({ url }) => {
  const createMutex = advisoryLock.default(url)
  return {
    async pair(key) {
      const unlock = await createMutex(key).tryLock()
      if (unlock === undefined) throw new Error(`expected ${key} to be free`)
      await unlock()
    },
    close: async () => {},
  }
}
