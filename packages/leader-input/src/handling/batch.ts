import { isDeepStrictEqual } from 'node:util'
import { FencedError, HandlerError, type Lock } from '@x/lock-core'
import { sqlStateOf } from '@x/pg-session'
import type { KyselyPlugin } from 'kysely'
import type { ChangeEvent } from '../change-event.ts'
import type { Connection } from '../connections.ts'
import type { FeedEvent } from '../event.ts'
import { handlerTransaction } from '../handler-transaction.ts'
import { type Cursor, parseCursor } from '../log/cursor.ts'
import { moveValues } from '../log/reader.ts'
import type { LogStatements } from '../log/statements.ts'
import type { ChangeHandler, ResolvedOptions } from '../options.ts'
import { type BatchTrace, batchChannel } from '../tracing.ts'
import type { ParkStatements } from './statements.ts'

/** What a batch needs of its term. */
export interface BatchContext<DB> {
  readonly connection: Connection
  readonly log: LogStatements
  readonly parking: ParkStatements
  readonly options: ResolvedOptions
  readonly plugins: readonly KyselyPlugin[]
  readonly lock: Lock
  readonly epoch: bigint
  readonly revision: bigint
  readonly installed: readonly string[]
  readonly lineage: number
  /** Aborts when the term is over. */
  readonly signal: AbortSignal
  readonly handler: ChangeHandler<DB>
}

/** What one transaction does. */
export interface BatchWork {
  readonly events: readonly FeedEvent[]
  readonly parked: readonly { readonly event: FeedEvent; readonly reason: string | null }[]
  readonly attempt: number
  /** Moves the cursor, or only holds the epoch when events are handed over that are not the cursor's. */
  readonly to: Cursor | null
  /** Rows of parked events that have been handed over. */
  readonly unpark?: readonly string[] | undefined
}

/** The handler, not the database, is the reason why a batch failed. */
export class HandlerFailure extends Error {
  constructor(cause: unknown) {
    super('the handler failed', { cause })
  }
}

/**
 * One transaction: the cursor moves first, for this epoch only; then the handler writes through the same transaction; then
 * both are committed, or neither. A leader whose time is over cannot commit anything.
 *
 * @returns the transactions that the handler itself has changed captured tables in, to be passed over later
 * @throws {FencedError} @throws {HandlerFailure}
 */
export function commitBatch<DB>(context: BatchContext<DB>, work: BatchWork): Promise<bigint | null> {
  if (!batchChannel.hasSubscribers) return commit(context, work)
  const trace: BatchTrace = {
    input: context.options.name,
    epoch: context.epoch,
    events: work.events.length,
    parked: work.parked.length,
    attempt: work.attempt,
  }
  return batchChannel.tracePromise(async () => {
    try {
      const own = await commit(context, work)
      trace.outcome = 'committed'
      return own
    } catch (error) {
      trace.outcome =
        error instanceof HandlerFailure ? 'handler-failed' : error instanceof FencedError ? 'fenced' : 'error'
      throw error
    }
  }, trace)
}

async function commit<DB>(context: BatchContext<DB>, work: BatchWork): Promise<bigint | null> {
  const { connection, log, options, epoch } = context
  const limit = options.handlerTimeoutMs
  await connection.run(`BEGIN; SET LOCAL idle_in_transaction_session_timeout = ${limit + 5_000}`)
  try {
    const moved =
      work.to === null
        ? await connection.rows(log.holdEpoch, [options.name, epoch.toString()])
        : await connection.rows(log.move, moveValues(options.name, context, work.to))
    if (moved.length === 0) {
      throw new FencedError(
        `input ${options.name}: epoch ${epoch} is over, or somebody moved the cursor or installed something; the batch was rolled back`,
      )
    }
    for (const { event, reason } of work.parked) await park(context, event, reason)
    const wrote = work.events.length > 0 && (await runHandler(context, work))
    if (wrote && connection.isIdle && !(await hasMoved(context, work))) throw ended(work)
    const own = await afterHandler(context, work, wrote)
    context.lock.assertHeld()
    if ((await connection.run('COMMIT')) === 'ROLLBACK') throw swallowed(work)
    return own
  } catch (error) {
    await rollBack(connection, error)
    throw error
  }
}

/** What is left to be written once the handler has done its part; gives this transaction when it is one to be passed over. */
async function afterHandler<DB>(
  { connection, log, parking, options }: BatchContext<DB>,
  work: BatchWork,
  wrote: boolean,
): Promise<bigint | null> {
  try {
    if (work.unpark !== undefined) await connection.rows(parking.unpark, [work.unpark])
    const [own] = wrote && !options.ownChanges ? await connection.rows(log.markOwn, [options.name]) : []
    return own === undefined ? null : BigInt(String(own[0]))
  } catch (error) {
    throw sqlStateOf(error) === '25P02' ? swallowed(work) : error
  }
}

/**
 * Whether the cursor stands where this batch moves it, once the handler has ended the transaction: after its COMMIT the
 * batch is done, after its ROLLBACK nothing of it was, and this leader would run ahead of the cursor in the database.
 */
async function hasMoved<DB>(
  { connection, log, options, epoch }: BatchContext<DB>,
  { to }: BatchWork,
): Promise<boolean> {
  const [row] = await connection.rows(log.readCursor, [options.name])
  if (row === undefined || to === null) return false
  const stored = parseCursor(row)
  return stored.epoch === epoch && isDeepStrictEqual(placeOf(stored), placeOf(to))
}

function placeOf({ prev, lo, pinned, ownXids, backfill, lineage }: Cursor): Cursor {
  return { prev, lo, pinned, ownXids, backfill, lineage }
}

function ended({ attempt }: BatchWork): HandlerFailure {
  const message =
    'the handler rolled back the transaction of its batch; expected it to leave both ends to the input, and to take a savepoint'
  return new HandlerFailure(new HandlerError(message, { attempts: attempt }))
}

/** An error that the handler kept to itself has aborted the transaction, and the server says so with what comes next. */
function swallowed({ attempt }: BatchWork): HandlerFailure {
  return new HandlerFailure(
    new HandlerError('a statement of the handler failed, and its error was not passed on', { attempts: attempt }),
  )
}

/** Without an answer to ROLLBACK the connection is what failed, whatever the handler made of it. */
async function rollBack(connection: Connection, error: unknown): Promise<void> {
  // A handler that took too long has cost the connection already.
  if (connection.isReleased) return
  try {
    await connection.run('ROLLBACK')
  } catch (lost) {
    connection.release(true)
    throw error instanceof HandlerFailure ? lost : error
  }
}

async function runHandler<DB>(context: BatchContext<DB>, { events, attempt }: BatchWork): Promise<boolean> {
  const { connection, options, epoch, handler } = context
  const transaction = handlerTransaction<DB>(connection, context.plugins)
  // Of this batch alone: what a handler leaves on AbortSignal.any() would be kept until the term is over.
  const over = new AbortController()
  const { signal } = over
  const onTermOver = (): void => over.abort(context.signal.reason)
  context.signal.addEventListener('abort', onTermOver, { once: true })
  if (context.signal.aborted) onTermOver()
  let timer: NodeJS.Timeout | undefined
  const tooLong = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      const error = new HandlerError(
        `the handler of input ${options.name} did not settle within handlerTimeoutMs = ${options.handlerTimeoutMs}`,
        { attempts: attempt },
      )
      over.abort(error)
      // Its statements may still be on the way: only a new connection is free of them.
      connection.release(true)
      reject(error)
    }, options.handlerTimeoutMs)
  })
  const handled = transaction.run(async (trx) => {
    for (const event of events) if (event.isToBeValidated) await event.validate()
    await handler(events as unknown as readonly ChangeEvent<DB>[], {
      trx,
      client: transaction.client,
      epoch,
      attempt,
      signal,
    })
  })
  try {
    await Promise.race([handled, tooLong])
  } catch (error) {
    throw new HandlerFailure(error)
  } finally {
    clearTimeout(timer)
    context.signal.removeEventListener('abort', onTermOver)
    handled.catch(() => {})
    transaction.end()
  }
  return transaction.used
}

async function park<DB>(
  { connection, parking, options, lineage }: BatchContext<DB>,
  { logged, keySuffix }: FeedEvent,
  reason: string | null,
): Promise<void> {
  const { seq, xid, location, operation, key, oldKey, before, after, atMicros } = logged
  await connection.rows(parking.park, [
    options.name,
    seq.toString(),
    xid.toString(),
    location,
    operation,
    key,
    oldKey,
    before,
    after,
    atMicros,
    lineage,
    reason,
    keySuffix,
  ])
}
