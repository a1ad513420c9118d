import { createHash } from 'node:crypto'
import { ConfigurationError } from '@x/lock-core'
import { fencingBaseSql, quoteIdentifier, quoteLiteral } from '@x/pg-session'

/** The objects of one lock table, qualified and quoted, ready to stand in SQL. */
export interface TableNames {
  readonly schema: string
  readonly table: string
  readonly locks: string
  readonly shares: string
  readonly sessions: string
  readonly waiters: string
  readonly timeline: string
  readonly rebase: string
  /** A scalar expression. */
  readonly fencingBase: string
  /** Sequences stand as string literals, for `nextval`. */
  readonly tickets: string
  readonly fencingTokens: string
  readonly grant: string
  readonly grantAlike: string
  readonly release: string
  readonly renew: string
  readonly renewShares: string
  readonly handOff: string
  /** Tells the prepared statements of two tables apart that share a connection. */
  readonly tag: string
}

/** What the migration calls the objects of the table `locks`; those of another table carry its name in place of `lock`. */
const objects = {
  shares: 'lock_shares',
  sessions: 'lock_sessions',
  waiters: 'lock_waiters',
  timeline: 'lock_timeline',
  tickets: 'lock_tickets',
  grant: 'lock_grant',
  grantAlike: 'lock_grant_alike',
  release: 'lock_release',
  renew: 'lock_renew',
  renewShares: 'lock_renew_shares',
  handOff: 'lock_hand_off',
} as const

/** Characters that the longest of our suffixes takes of the 63 that an identifier may have. */
const longestSuffix = '_renew_shares'.length

/** The name of an object that belongs to `table`, given what the migration calls the one of `locks`. */
export const objectOf = (table: string, name: string): string =>
  table === 'locks'
    ? name
    : name === 'locks'
      ? table
      : name.replace(/^lock_/, `${table}_`).replace(/^active_locks$/, `active_${table}`)

/**
 * @throws {ConfigurationError} for names that are no identifiers, or too long to carry our suffixes
 */
export const tableNames = (schema: string, table: string): TableNames => {
  if (Buffer.byteLength(table) > 63 - longestSuffix) {
    throw new ConfigurationError(
      `option table: expected at most ${63 - longestSuffix} bytes, so that the tables beside it can carry its name; got ${Buffer.byteLength(table)}`,
      { option: 'table' },
    )
  }
  const inSchema = (name: string): string => `${quoteIdentifier(schema)}.${quoteIdentifier(name)}`
  const own = (name: string): string => inSchema(objectOf(table, name))
  return {
    schema,
    table,
    locks: own('locks'),
    shares: own(objects.shares),
    sessions: own(objects.sessions),
    waiters: own(objects.waiters),
    timeline: own(objects.timeline),
    tickets: quoteLiteral(own(objects.tickets)),
    rebase: inSchema('fencing_rebase'),
    grant: own(objects.grant),
    grantAlike: own(objects.grantAlike),
    release: own(objects.release),
    renew: own(objects.renew),
    renewShares: own(objects.renewShares),
    handOff: own(objects.handOff),
    fencingBase: fencingBaseSql(schema),
    fencingTokens: quoteLiteral(inSchema('fencing_tokens')),
    tag: createHash('sha256').update(`${schema}\0${table}`).digest('hex').slice(0, 8),
  }
}
