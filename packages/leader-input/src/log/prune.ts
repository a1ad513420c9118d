import { sqlStateOf } from '@x/pg-session'
import type { Connection } from '../connections.ts'
import type { LogStatements } from './statements.ts'
import { blockBits, type UpkeepStatements } from './upkeep-statements.ts'

/** Empties the children of the log that every input has handled. */
export interface Pruner {
  /** Looks, and truncates at most one child. Tells which, or null. Never waits for a writer. */
  prune(connection: Connection): Promise<number | null>
}

/** Of these blocks on, all numbers were drawn by transactions with ids below `xid`: the sequence had left them. */
interface Mark {
  readonly block: bigint
  readonly xid: bigint
}

export function pruner(statements: UpkeepStatements, log: LogStatements): Pruner {
  let mark: Mark | null = null
  return {
    async prune(connection) {
      const [state] = await connection.rows(statements.pruneState)
      const block = BigInt(String(state?.[0])) >> blockBits
      if (mark === null || mark.block < block) {
        const [row] = await connection.rows(log.ownXid)
        mark = { block, xid: BigInt(String(row?.[0])) }
        return null
      }
      // What a cursor has not seen the end of may have rows anywhere below.
      if (state?.[1] != null && BigInt(String(state[1])) <= mark.xid) return null
      for (const [child, highest] of await connection.rows(statements.highest)) {
        if (highest === null || BigInt(String(highest)) >> blockBits >= mark.block) continue
        if (await truncate(connection, statements, Number(child), mark.block)) return Number(child)
      }
      return null
    },
  }
}

async function truncate(
  connection: Connection,
  statements: UpkeepStatements,
  child: number,
  before: bigint,
): Promise<boolean> {
  await connection.run('BEGIN')
  try {
    await connection.run(statements.lockChild(child))
    // A writer may have come round to this child since it was looked at.
    const [row] = await connection.rows(statements.highestOf(child))
    const isOld = row?.[0] != null && BigInt(String(row[0])) >> blockBits < before
    if (isOld) await connection.run(statements.truncateChild(child))
    await connection.run('COMMIT')
    return isOld
  } catch (error) {
    await connection.run('ROLLBACK')
    // A writer is in it, or this role may not prune: the child just grows until somebody else does.
    if (sqlStateOf(error) === '55P03' || sqlStateOf(error) === '42501') return false
    throw error
  }
}
