import { tableNames } from '../../src/names.ts'
import { tableStatements } from '../../src/statements.ts'

const s = tableStatements(tableNames('coordination', 'locks'))

export interface GrantWay {
  readonly text: string
  readonly values: unknown[]
}

/** Each statement that grants, asked for one key. */
export const grantWays: Readonly<
  Record<string, (key: string, owner: string, marginMs?: number, afterFailover?: boolean) => GrantWay>
> = {
  'the statement for one free key': (key, owner, marginMs = 250, afterFailover = false) => ({
    text: s.grantOne.text,
    values: [key, owner, 30_000, null, 'name', null, marginMs, afterFailover],
  }),
  'the one for many free keys that are alike': (key, owner, marginMs = 250, afterFailover = false) => ({
    text: s.grantAlike.text,
    values: [[key], owner, 30_000, null, 'name', null, marginMs, afterFailover],
  }),
  ...Object.fromEntries(
    Object.entries({
      'the one for many free keys': s.grantFree,
      'the one that knows why': s.grant,
      'the one for all or none': s.grantAll,
      'the one for shared holders': s.grantShared,
    }).map(([name, { text }]) => [
      name,
      (key: string, owner: string, marginMs = 250, afterFailover = false) => ({
        text,
        values: [[key], [owner], [30_000], [null], 'name', null, marginMs, afterFailover],
      }),
    ]),
  ),
}

/** Who holds the key `$1`, alone or with others. */
export const holderSql = `SELECT coalesce(s.session_id, l.session_id) AS holder FROM coordination.locks l
  LEFT JOIN coordination.lock_shares s ON s.key = l.key AND l.shared WHERE l.key = $1`
