import type { SqlExecutor } from '@x/lock-core'
import { type SQL, sql } from 'drizzle-orm'

export const drizzleExecutor = (tx: { execute(query: SQL): Promise<{ rows: unknown[] }> }): SqlExecutor => ({
  query: (text: string, values: unknown[]) => {
    const parts = text.split(/\$(\d+)/)
    return tx.execute(sql.join(parts.map((part, i) => (i % 2 ? sql`${values[Number(part) - 1]}` : sql.raw(part)))))
  },
})
