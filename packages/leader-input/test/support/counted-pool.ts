import type { DatabaseOfFile } from '@x/testkit/vitest'
import type { Pool } from 'pg'

/** A pool that counts how often its connections have sent a statement: what a leader does without leaving a trace. */
export const countedPool = (
  database: DatabaseOfFile,
): { readonly pool: Pool; readonly sent: (statement: { readonly text: string }) => number } => {
  const counts = new Map<unknown, number>()
  const pool = database.pool()
  pool.on('connect', (client) => {
    const query = client.query.bind(client) as (...args: unknown[]) => unknown
    const counting = (...args: unknown[]): unknown => {
      const [first] = args
      const text = typeof first === 'object' && first !== null && 'text' in first ? first.text : first
      counts.set(text, (counts.get(text) ?? 0) + 1)
      return query(...args)
    }
    client.query = counting as typeof client.query
  })
  return { pool, sent: ({ text }) => counts.get(text) ?? 0 }
}
