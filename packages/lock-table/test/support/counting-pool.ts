import type { PgPool } from '@x/lock-core'
import type { Pool } from 'pg'

export interface CountingPool {
  readonly pool: PgPool
  /** Statements since the last reset. */
  statements(): number
  /** The same by name, without the tag of the table and the hash of the text. */
  byName(): Readonly<Record<string, number>>
  reset(): void
}

/** A pool that counts the statements which pass through it. */
export const countingPool = (pool: Pool): CountingPool => {
  let names: string[] = []
  const seen = new WeakSet<object>()
  return {
    pool: {
      options: pool.options,
      async connect() {
        const client = await pool.connect()
        if (!seen.has(client)) {
          seen.add(client)
          const query = client.query.bind(client) as (...args: unknown[]) => unknown
          Reflect.set(client, 'query', (config: { readonly name?: string }, ...rest: unknown[]) => {
            names.push((config.name ?? 'unnamed').replace(/_[0-9a-f]{8}_[0-9a-f]{12}$/, ''))
            return query(config, ...rest)
          })
        }
        return client
      },
    },
    statements: () => names.length,
    byName() {
      const counts: Record<string, number> = {}
      for (const name of [...names].sort()) counts[name] = (counts[name] ?? 0) + 1
      return counts
    },
    reset() {
      names = []
    },
  }
}
