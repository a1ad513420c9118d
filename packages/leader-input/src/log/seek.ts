import { ConfigurationError } from '@x/lock-core'
import { unhurriedMs } from '../connection.ts'
import { type Connections, inTransaction } from '../connections.ts'
import { notInstalled } from '../leadership.ts'
import { numberBound } from './number-bound.ts'
import type { LogStatements } from './statements.ts'

/** `start`: everything that the log still has. `now`: nothing of it. `seq`: what has a higher number than this. */
export type SeekPosition = 'now' | 'start' | { seq: bigint }

/**
 * Moves the cursor without being its leader, who notices by the revision and reads it anew. What is committed after the
 * seek comes whatever its number: numbers decide only about what was visible at the seek.
 */
export async function seekCursor(
  connections: Connections,
  statements: LogStatements,
  name: string,
  position: SeekPosition,
): Promise<void> {
  if (position !== 'now' && position !== 'start' && typeof position?.seq !== 'bigint') {
    throw new ConfigurationError("seek: expected 'now', 'start' or { seq: bigint }", { option: 'position' })
  }
  await connections.use(async (connection) => {
    const lo = await numberBound(connection, statements)
    await inTransaction(connection, async () => {
      // First of all: a snapshot that is older than the leader's batch would move the cursor back behind what it has handled.
      const [locked] = await connection.rows(statements.lockCursor, [name], unhurriedMs)
      if (locked === undefined) throw notInstalled(name)
      if (position === 'now') await connection.rows(statements.seekNow, [name, lo])
      else if (position === 'start') await connection.rows(statements.seekStart, [name])
      else await connection.rows(statements.seekNumber, [name, position.seq.toString(), lo])
    })
  })
}
