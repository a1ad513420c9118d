import { setTimeout as delay } from 'node:timers/promises'
import type { PgPool } from '@x/lock-core'
import { createTableLocker } from '@x/lock-table'
import { Client, Pool } from 'pg'
import type { Contender } from '../benchmark.ts'
import { contender } from '../contender.ts'
import { distribution } from '../measure.ts'

const count = 10_000
const renewals = 3

/** A locker renews at a third of this. The floor pauses as long: what is sent back to back finds the caches warm. */
const ttlMs = 3_000

const literal = (values: readonly unknown[]): string => `{${values.join(',')}}`

/** The floor: what a team would write to extend 10,000 leases at once, whichever owner and token they must match. */
export const bareRenewal: Contender = contender({
  async open({ url }) {
    const client = new Client({ connectionString: url })
    await client.connect()
    await client.query(`CREATE TABLE IF NOT EXISTS bench_leases (
      key text PRIMARY KEY, owner text, token bigint, expires_at timestamptz NOT NULL) WITH (fillfactor = 50)`)
    await client.query('TRUNCATE bench_leases')
    await client.query(
      `INSERT INTO bench_leases SELECT 'lease/' || i, 'owner', i, now() + interval '1 hour' FROM generate_series(1, $1) i`,
      [count],
    )
    await client.query('VACUUM ANALYZE bench_leases')
    return client
  },
  async round(client) {
    const numbers = Array.from({ length: count }, (_, index) => index + 1)
    const values = [
      literal(numbers.map((number) => `lease/${number}`)),
      literal(numbers.map(() => 'owner')),
      literal(numbers),
    ]
    const durations: number[] = []
    for (let time = 0; time < renewals; time += 1) {
      await delay(ttlMs / 3)
      const startedAt = performance.now()
      const { rowCount } = await client.query({
        name: 'bench_renew',
        text: `UPDATE bench_leases l SET expires_at = clock_timestamp() + interval '1 hour'
               FROM unnest($1::text[], $2::text[], $3::bigint[]) AS a (key, owner, token)
               WHERE l.key = a.key AND l.owner = a.owner AND l.token = a.token AND l.expires_at > clock_timestamp()
               RETURNING l.token::text`,
        values,
        rowMode: 'array',
      })
      durations.push(performance.now() - startedAt)
      if (rowCount !== count) throw new Error(`expected ${count} renewals, got ${rowCount}`)
    }
    return distribution(durations)
  },
  close: (client) => client.end(),
})

/** `@x/lock-table`: the renewals that a locker sends by itself for 10,000 leases, from the sending to the parsed answer. */
export const ourRenewal: Contender = contender({
  async open({ url }) {
    const pool = new Pool({ connectionString: url, max: 2 })
    const watched = watchRenewals(pool)
    const locker = createTableLocker({ pool: watched.pool, ttlMs, wakeUps: 'poll' })
    const locks = await Promise.all(Array.from({ length: count }, (_, index) => locker.acquire(`lease/${index}`)))
    await pool.query('VACUUM ANALYZE coordination.locks')
    // Leases that a slow machine took half an interval to grant are renewed in two parts, once.
    await watched.inStep
    return { pool, watched, locker, locks }
  },
  async round({ watched }) {
    const durations = await watched.next(renewals)
    return distribution(durations)
  },
  async close({ pool, locker, locks }) {
    await Promise.all(locks.map((lock) => lock.release()))
    await locker.close()
    await pool.end()
  },
})

interface Renewal {
  readonly name?: string
  readonly values?: readonly unknown[]
}

interface WatchedRenewals {
  readonly pool: PgPool
  /** Resolves with the first renewal of all leases. */
  readonly inStep: Promise<void>
  /** How long each of the next renewals took; rejects when one was not a single statement for all leases. */
  next(times: number): Promise<readonly number[]>
}

const watchRenewals = (pool: Pool): WatchedRenewals => {
  const inStep = Promise.withResolvers<void>()
  let durations: number[] = []
  let enough: { readonly times: number; readonly settled: PromiseWithResolvers<readonly number[]> } | null = null
  const seen = new WeakSet<object>()
  const watched: PgPool = {
    options: pool.options,
    async connect() {
      const client = await pool.connect()
      if (seen.has(client)) return client
      seen.add(client)
      const query = client.query.bind(client) as (...args: unknown[]) => Promise<{ rows: unknown[] }>
      Reflect.set(client, 'query', async (config: Renewal, ...rest: unknown[]) => {
        const startedAt = performance.now()
        const result = await query(config, ...rest)
        if (config.name?.startsWith('lock_renew')) {
          durations.push(performance.now() - startedAt)
          const leases = String(config.values?.[0]).split(',').length
          if (leases === count) inStep.resolve()
          else enough?.settled.reject(new Error(`expected a renewal of ${count} leases, got ${leases}`))
          if (enough !== null && durations.length >= enough.times) enough.settled.resolve(durations)
        }
        return result
      })
      return client
    },
  }
  return {
    pool: watched,
    inStep: inStep.promise,
    next(times) {
      durations = []
      const settled = Promise.withResolvers<readonly number[]>()
      enough = { times, settled }
      return settled.promise
    },
  }
}
