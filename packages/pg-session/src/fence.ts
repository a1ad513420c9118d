import { type SqlExecutor, UnsupportedError } from '@x/lock-core'

/** A scalar SQL expression for the base of this server's tokens; an uncorrelated subquery, so it is evaluated once a statement. */
export function fencingBaseSql(_schema: string): string {
  throw new UnsupportedError('not yet')
}

/** A scalar SQL expression that draws the next token: the base plus `nextval`. Stands in the SET of an upsert. */
export function fencingTokenSql(_schema: string): string {
  throw new UnsupportedError('not yet')
}

/** Records the highest token seen for a resource, in the caller's transaction. */
export function checkFence(
  _executor: SqlExecutor,
  _fence: { resource: string; token: bigint; schema?: string | undefined },
): Promise<void> {
  throw new UnsupportedError('not yet')
}
