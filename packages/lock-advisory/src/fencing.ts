import { SchemaError } from '@x/lock-core'
import { fencingBaseSql, quoteIdentifier, quoteLiteral, type Session, toMigrate } from '@x/pg-session'
import type { DrawToken } from './statements.ts'

/** What the caller asked for; `auto` takes the sequence where the migration was run, else nothing. */
export type FencingChoice = 'sequence' | 'xid' | 'none' | 'auto'

/** How the statements of a session draw tokens. */
export interface FencingPlan {
  readonly kind: 'sequence' | 'xid' | 'none'
  readonly drawToken: DrawToken
}

const none: FencingPlan = { kind: 'none', drawToken: null }

/**
 * Transaction ids rise like tokens and need no schema, but a transaction that only takes an id is not flushed: after a
 * crash of the server the same id may be given once more.
 */
const xid: FencingPlan = { kind: 'xid', drawToken: 'pg_current_xact_id()::text::int8' }

/**
 * Decides for one session. The part of a token above the sequence stands still while the server process lives, and no
 * session outlives it: it is read here once, so that a grant costs a `nextval` and nothing else.
 * @throws {SchemaError} SCHEMA_MISSING when a sequence was asked for and is not there
 */
export async function planFencing(choice: FencingChoice, schema: string, session: Session): Promise<FencingPlan> {
  if (choice === 'none') return none
  if (choice === 'xid') return xid
  const sequence = `${quoteIdentifier(schema)}.fencing_tokens`
  const [found] = await session.query({ name: 'advisory_fencing', text: 'SELECT to_regclass($1)::oid::int8' }, [
    sequence,
  ])
  const oid = found?.[0]
  if (typeof oid !== 'string') {
    if (choice === 'auto') return none
    throw new SchemaError(
      'SCHEMA_MISSING',
      `fencing 'sequence': expected the sequence ${sequence}, got none; ${toMigrate('@x/lock-advisory/migrations', schema)}; or set fencing to 'none'`,
    )
  }
  const [row] = await session.query(
    { name: 'advisory_fencing_base', text: `SELECT ${fencingBaseSql(schema)}::int8` },
    [],
  )
  return { kind: 'sequence', drawToken: `${String(row?.[0])}::int8 + nextval(${quoteLiteral(oid)}::regclass)` }
}
