import type { Connection } from '../connections.ts'
import type { LogStatements } from './statements.ts'

/**
 * A number for a cursor's `lo`, whatever snapshot is taken after this: no transaction from its `xmax` on has drawn a number
 * up to this one.
 *
 * A snapshot's `xmax` is not the next id, but the one after the last that is over: transactions that have an id already,
 * and numbers, may stand above it. Whoever had drawn a number when we looked had an id by then, so once an id that we took
 * afterwards is over, `xmax` is above his. Outside of a transaction only: the id has to be over.
 */
export async function numberBound(
  connection: Connection,
  { lastNumber, ownXid }: Pick<LogStatements, 'lastNumber' | 'ownXid'>,
): Promise<string> {
  const [row] = await connection.rows(lastNumber)
  await connection.rows(ownXid)
  return String(row?.[0])
}
