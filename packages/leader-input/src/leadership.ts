import { ConfigurationError, FencedError, type Lock, type Logger, SchemaError } from '@x/lock-core'
import { sqlStateOf } from '@x/pg-session'
import type { Connection } from './connections.ts'
import { parseCursor, type StoredCursor } from './log/cursor.ts'
import type { LogStatements } from './log/statements.ts'

/** How long the cursor's row may be held by somebody who should not hold it any more. */
const patienceMs = 100

/** A leader was here whose epoch is not below this lock's token. */
export class Outranked extends FencedError {
  /** The epoch that was met. */
  readonly epoch: bigint

  constructor(name: string, token: bigint, epoch: bigint) {
    super(
      `input ${name}: expected an epoch below this lock's token ${token}, got ${epoch}: a later leader was here; campaigning again`,
    )
    this.epoch = epoch
  }
}

interface Claim {
  readonly name: string
  readonly lock: Lock
  readonly durableTokens: boolean
  /**
   * An epoch that was there before this lock was granted. When the token is not above it either, it was not taken from
   * tokens of this sequence (another kind of locker led before, or the locks were restored), and nothing follows from the two.
   */
  readonly foreignEpoch: bigint | null
  readonly logger: Logger | undefined
}

/**
 * Makes the holder of the lock the leader: takes the epoch in the cursor's row, after which no earlier leader can commit.
 *
 * A predecessor that was stopped inside its transaction still holds that row, and no timeout of the server frees it:
 * stopped while it receives, its backend is busy writing to the client. Whoever holds the row is ended.
 *
 * @throws {Outranked} when a later leader was here already
 * @throws {ConfigurationError} when the input is not installed
 */
export async function takeEpoch(
  connection: Connection,
  statements: LogStatements,
  claim: Claim,
): Promise<StoredCursor> {
  const { name, lock, logger } = claim
  for (;;) {
    await connection.run(`BEGIN; SET LOCAL lock_timeout = ${patienceMs}`)
    try {
      const cursor = await moveEpoch(connection, statements, claim)
      // Slept in between? Then somebody else may lead by right, and must not be fenced.
      lock.assertHeld()
      await connection.run('COMMIT')
      return cursor
    } catch (error) {
      await connection.run('ROLLBACK')
      if (sqlStateOf(error) !== '55P03') throw error
    }
    const [row] = await connection.rows(statements.readCursor, [name])
    // Whoever holds it may be the rebase that is missing, which takes its time.
    if (row !== undefined) refuseOtherServer(name, parseCursor(row))
    for (const pid of await cursorHolders(connection, statements, name)) {
      lock.assertHeld()
      logger?.warn({ input: name, pid }, 'ending the backend of a former leader, which holds the cursor')
      await connection.rows(statements.endBackend, [pid])
    }
  }
}

/**
 * Ends the backend of a connection that this leader has given up, if it is still at work in the transaction of a batch: the
 * server does not look whether somebody waits for a statement, and the next batch would wait for the cursor behind it.
 */
export async function endAbandoned(
  connection: Connection,
  statements: LogStatements,
  name: string,
  backend: string | null,
): Promise<void> {
  if (backend === null || !(await cursorHolders(connection, statements, name)).includes(backend)) return
  await connection.rows(statements.endBackend, [backend])
}

async function cursorHolders(connection: Connection, statements: LogStatements, name: string): Promise<string[]> {
  return (await connection.rows(statements.cursorHolder, [name])).map(([pid]) => String(pid))
}

/** To the token where tokens count, else to the next. */
async function moveEpoch(
  connection: Connection,
  statements: LogStatements,
  { name, lock, durableTokens, foreignEpoch }: Claim,
): Promise<StoredCursor> {
  const token = durableTokens ? lock.fencingToken : null
  if (token !== null) {
    const [row] = await connection.rows(statements.claimByToken, [name, token.toString()])
    if (row !== undefined) return parseCursor(row)
  }
  const [row] = await connection.rows(statements.claimNext, [name])
  if (row === undefined) throw notInstalled(name)
  const cursor = parseCursor(row)
  const met = cursor.epoch - 1n
  if (token !== null && met !== foreignEpoch) throw new Outranked(name, token, met)
  return cursor
}

/** @throws {SchemaError} where transaction ids of the log mean something else than when it was written */
export function refuseOtherServer(name: string, { sameServer }: Pick<StoredCursor, 'sameServer'>): void {
  if (sameServer) return
  throw new SchemaError(
    'SCHEMA_OUTDATED',
    `input ${name}: the log was written by another server (its system identifier differs), where transaction ids meant something else; expected the same server, or rebase() after a restore ({ upgraded: true } after pg_upgrade)`,
  )
}

export function notInstalled(name: string): ConfigurationError {
  return new ConfigurationError(`input ${name} is not installed in this schema: call install() first`, {
    option: 'name',
  })
}
