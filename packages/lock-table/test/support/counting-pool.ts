import type { PgPool } from '@x/lock-core'
import type { Pool } from 'pg'
import { watchedPool } from './watched-pool.ts'

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
  return {
    pool: watchedPool(pool, (name = 'unnamed', send) => {
      names.push(name.replace(/_[0-9a-f]{8}_[0-9a-f]{12}$/, ''))
      return send()
    }),
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
