import type { Pool } from 'pg'
import { loggedChanges } from '../../src/log/reader.ts'

/** A change of the log, with its key as the product reads it. */
export interface Logged {
  readonly location: string
  readonly operation: string
  readonly key: Readonly<Record<string, unknown>> | null
  readonly oldKey: Readonly<Record<string, unknown>> | null
  readonly before: string | null
  readonly after: string | null
}

/** What the log holds, of one table or of all, in order. */
export async function logged(from: Pick<Pool, 'query'>, location: string | null = null): Promise<Logged[]> {
  const { rows } = await from.query<Record<string, string | null>>(
    `SELECT seq::text, xid::text, source::text, operation, before::text, after::text FROM coordination.changes
      WHERE source[0] = coalesce($1, source[0]) ORDER BY seq`,
    [location],
  )
  return loggedChanges(rows.map((row) => Object.values(row))).map(
    ({ location, operation, key, oldKey, before, after }) => ({
      location,
      operation,
      key: key === null ? null : JSON.parse(key),
      oldKey: oldKey === null ? null : JSON.parse(oldKey),
      before,
      after,
    }),
  )
}
