import { ConfigurationError, FencedError, type Lock, type Logger } from '@x/lock-core'
import { sqlStateOf } from '@x/pg-session'
import type { Connection } from './connections.ts'
import { parseCursor, type StoredCursor } from './log/cursor.ts'
import type { LogStatements } from './log/statements.ts'

/** How long the cursor's row may be held by somebody who should not hold it any more. */
const patienceMs = 100

/**
 * Makes the holder of the lock the leader: takes the epoch in the cursor's row, after which no earlier leader can commit.
 *
 * A predecessor that was stopped inside its transaction still holds that row, and no timeout of the server frees it:
 * stopped while it receives, its backend is busy writing to the client. Whoever holds the row is ended.
 *
 * @throws {FencedError} when a later leader was here already
 * @throws {ConfigurationError} when the input is not installed
 */
export async function takeEpoch(
  connection: Connection,
  statements: LogStatements,
  options: {
    readonly name: string
    readonly lock: Lock
    readonly durableTokens: boolean
    readonly logger: Logger | undefined
  },
): Promise<StoredCursor> {
  const { name, lock, logger } = options
  const token = options.durableTokens ? lock.fencingToken : null
  for (;;) {
    await connection.run(`BEGIN; SET LOCAL lock_timeout = ${patienceMs}`)
    try {
      const [row] =
        token === null
          ? await connection.rows(statements.claimNext, [name])
          : await connection.rows(statements.claimByToken, [name, token.toString()])
      // Slept in between? Then somebody else may lead by right, and must not be fenced.
      lock.assertHeld()
      if (row === undefined) return await refuse(connection, statements, name, token)
      await connection.run('COMMIT')
      return parseCursor(row)
    } catch (error) {
      await connection.run('ROLLBACK')
      if (sqlStateOf(error) !== '55P03') throw error
    }
    for (const [pid] of await connection.rows(statements.cursorHolder, [name])) {
      lock.assertHeld()
      logger?.warn({ input: name, pid }, 'ending the backend of a former leader, which holds the cursor')
      await connection.rows({ name: 'input_end_backend', text: 'SELECT pg_terminate_backend($1)' }, [pid])
    }
  }
}

async function refuse(
  connection: Connection,
  statements: LogStatements,
  name: string,
  token: bigint | null,
): Promise<never> {
  const [row] = await connection.rows(statements.readCursor, [name])
  if (row === undefined) throw notInstalled(name)
  throw new FencedError(
    `input ${name}: expected an epoch below this lock's token ${token}, got ${row[0]}: a later leader was here; campaigning again`,
  )
}

export function notInstalled(name: string): ConfigurationError {
  return new ConfigurationError(`input ${name} is not installed in this schema: call install() first`, {
    option: 'name',
  })
}
