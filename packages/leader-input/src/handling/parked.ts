import { setTimeout as delay } from 'node:timers/promises'
import { ConfigurationError } from '@x/lock-core'
import type { Connections } from '../connections.ts'
import { idOf } from '../event.ts'
import type { ParkStatements } from './statements.ts'

/** Which parked events are meant. */
export interface ParkedFilter {
  /** `public.orders` */
  readonly location?: string | undefined
  /** As in `event.id`. */
  readonly id?: string | undefined
  /** At most so many, from the first on. */
  readonly limit?: number | undefined
}

const pageSize = 1_000
const lookEveryMs = 50

/** Asks the leader for the events, and waits until it has tried them all. */
export async function replayWhatIsParked(
  connections: Connections,
  statements: ParkStatements,
  name: string,
  filter: ParkedFilter,
  signal: AbortSignal,
): Promise<{ readonly replayed: number; readonly stillParked: number }> {
  const rowIds = await select(connections, statements, name, filter)
  if (rowIds.length === 0) return { replayed: 0, stillParked: 0 }
  await connections.use((connection) => connection.rows(statements.askReplay, [rowIds]))
  for (;;) {
    const [row] = await connections.use((connection) => connection.rows(statements.replayState, [rowIds]))
    const [still, waiting] = [Number(row?.[0]), Number(row?.[1])]
    if (waiting === 0) return { replayed: rowIds.length - still, stillParked: still }
    await delay(lookEveryMs, undefined, { signal }).catch(() => signal.throwIfAborted())
  }
}

/** Throws events away. What stays parked behind them on the same keys stays. */
export async function discardParked(
  connections: Connections,
  statements: ParkStatements,
  name: string,
  filter: ParkedFilter,
): Promise<number> {
  const rowIds = await select(connections, statements, name, filter)
  if (rowIds.length === 0) return 0
  const gone = await connections.use((connection) => connection.rows(statements.unpark, [rowIds]))
  return gone.length
}

async function select(
  connections: Connections,
  statements: ParkStatements,
  name: string,
  { location, id, limit }: ParkedFilter,
): Promise<string[]> {
  if (limit !== undefined && !(Number.isInteger(limit) && limit > 0)) {
    throw new ConfigurationError('option limit: expected a whole number above 0', { option: 'limit' })
  }
  const found: string[] = []
  let after = '0'
  for (;;) {
    const rows = await connections.use((connection) => connection.rows(statements.parkedAfter, [name, after, pageSize]))
    for (const row of rows) {
      after = String(row[9])
      const [relation, key, oldKey] = [row[2], row[4], row[5]] as (string | null)[]
      const isMeant =
        (location === undefined || relation === location) &&
        (id === undefined || idOf(key ?? null) === id || idOf(oldKey ?? null) === id)
      if (isMeant && found.length < (limit ?? Number.POSITIVE_INFINITY)) found.push(after)
    }
    if (rows.length < pageSize) return found
  }
}
