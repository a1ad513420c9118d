import { HandlerError } from '@x/lock-core'
import type { FeedEvent } from '../event.ts'
import type { Cursor } from '../log/cursor.ts'
import { isVisible } from '../log/window.ts'
import type { Term } from '../term.ts'
import { haltedChannel, type PoisonTrace, parkedChannel } from '../tracing.ts'
import { commitBatch, HandlerFailure } from './batch.ts'
import { afterFailure, afterSuccess, firstAttempt, longestRetryMs, retryDelayMs } from './retry.ts'

/** Events of one page or chunk, and where the cursor is after each. */
export interface Delivery {
  readonly events: readonly FeedEvent[]
  /** The cursor once the events up to this one are handled; once all are, for the last. */
  cursorAfter(event: FeedEvent): Cursor
  /** The cursor once everything is handled, also what nobody wanted to see. */
  readonly end: Cursor
}

/**
 * Delivers events to the handler, batch by batch, until all are handled, parked, or the term is over. A batch that fails is
 * tried again, then split until the event is found that fails by itself.
 * @param atMost events in one batch
 */
export async function deliver<DB>(
  term: Term<DB>,
  delivery: Delivery,
  atMost: number = Number.POSITIVE_INFINITY,
): Promise<void> {
  let pending = delivery.events
  let attempt = firstAttempt(Math.min(pending.length, atMost))
  let failures = 0
  while (pending.length > 0 && !term.isOver) {
    await term.whenResumed()
    const batch = pending.slice(0, attempt.size)
    const last = batch.length === pending.length
    const to = withOwn(term, last ? delivery.end : delivery.cursorAfter(lastOf(batch)))
    try {
      await commit(term, batch, to, failures + 1)
      pending = pending.slice(batch.length)
      attempt = afterSuccess(attempt, Math.min(pending.length, atMost))
      failures = 0
      term.succeeded()
    } catch (error) {
      if (!(error instanceof HandlerFailure)) throw error
      // A handler that was told to stop says nothing about the event.
      if (term.isOver) return
      failures += 1
      const next = afterFailure(attempt, term.options.maxAttempts, Math.random)
      term.failed(error.cause, next.kind === 'poison')
      if (next.kind === 'again') {
        attempt = next.attempt
        await term.pause(next.delayMs)
        continue
      }
      const poison = pending[0]
      if (poison === undefined) return
      if (term.options.onFailure === 'park') {
        await park(
          term,
          poison,
          error.cause,
          withOwn(term, pending.length === 1 ? delivery.end : delivery.cursorAfter(poison)),
        )
        pending = pending.slice(1)
        attempt = firstAttempt(Math.min(pending.length, atMost))
        failures = 0
        term.succeeded()
        continue
      }
      // Stepping down would only hand the poison to the next replica.
      term.halted(
        new HandlerError(
          `input ${term.options.name} halts at ${poison.location} ${poison.id ?? ''} (${poison.operation}, seq ${poison.seq}): the handler failed ${failures} times; it is tried again at most every ${longestRetryMs} ms`,
          { attempts: failures, cause: error.cause },
        ),
      )
      haltedChannel.publish(poisonTrace(term, poison))
      attempt = { size: 1, number: attempt.number, splitting: true }
      await term.pause(retryDelayMs(failures, Math.random))
    }
  }
}

async function commit<DB>(term: Term<DB>, batch: readonly FeedEvent[], to: Cursor, attempt: number): Promise<void> {
  const blocked = term.blocked.copy()
  const events: FeedEvent[] = blocked.isEmpty ? [...batch] : []
  const parked: { event: FeedEvent; reason: null }[] = []
  for (const event of blocked.isEmpty ? [] : batch) {
    if (!blocked.blocks(event.logged)) {
      events.push(event)
      continue
    }
    blocked.block(event.logged)
    parked.push({ event, reason: null })
  }
  const own = await commitBatch(await term.batchContext(), { events, parked, attempt, to })
  term.moved(own === null ? to : { ...to, ownXids: [...to.ownXids, own] }, events.length)
  if (parked.length > 0) term.blocked = blocked
}

async function park<DB>(term: Term<DB>, event: FeedEvent, cause: unknown, to: Cursor): Promise<void> {
  const reason = cause instanceof Error ? cause.message : String(cause)
  await commitBatch(await term.batchContext(), { events: [], parked: [{ event, reason }], attempt: 1, to })
  term.moved(to, 0)
  const blocked = term.blocked.copy()
  blocked.block(event.logged)
  term.blocked = blocked
  parkedChannel.publish(poisonTrace(term, event))
  term.options.logger?.warn(
    { input: term.options.name, location: event.location, id: event.id, seq: event.seq.toString(), reason },
    'parked an event',
  )
}

function poisonTrace<DB>(term: Term<DB>, { location, seq, idempotencyKey }: FeedEvent): PoisonTrace {
  return { input: term.options.name, epoch: term.epoch, location, seq, idempotencyKey }
}

/** The handler's own transactions so far that may still come up. */
function withOwn<DB>(term: Term<DB>, to: Cursor): Cursor {
  return { ...to, ownXids: term.cursor.ownXids.filter((xid) => !isVisible(to.prev, xid)) }
}

function lastOf(batch: readonly FeedEvent[]): FeedEvent {
  const last = batch.at(-1)
  if (last === undefined) throw new RangeError('a batch has at least one event')
  return last
}
