import { createHash } from 'node:crypto'
import { sqlStateOf } from './sqlstate.ts'
import type { Statement } from './statement.ts'

const names = new WeakMap<Statement, string>()

/**
 * The name on the server carries a hash of the text: behind a transaction pooler the same backend may know the name of
 * another version of this package, and would run its text.
 */
export function preparedName(statement: Statement): string {
  const known = names.get(statement)
  if (known !== undefined) return known
  const hash = createHash('sha256').update(statement.text).digest('hex').slice(0, 12)
  const name = `${statement.name.slice(0, 48)}_${hash}`
  names.set(statement, name)
  return name
}

/**
 * Errors that a named statement meets when the backend behind the connection has changed: it is unknown there (26000) or
 * known already (42P05). Nothing ran. The third comes where a migration changed what a prepared statement returns.
 */
export function isLostName(error: unknown): boolean {
  const state = sqlStateOf(error)
  return (
    state === '26000' ||
    state === '42P05' ||
    (state === '0A000' && error instanceof Error && error.message.includes('cached plan must not change'))
  )
}
