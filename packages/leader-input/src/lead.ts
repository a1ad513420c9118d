import { setTimeout as delay } from 'node:timers/promises'
import type { FeedEvent } from './event.ts'
import { type Delivery, deliver } from './handling/deliver.ts'
import { deliverByHand } from './handling/iterator.ts'
import { afterWindow } from './log/cursor.ts'
import { probeRest } from './log/probe.ts'
import { cursorAt, isEmptyWindow, type Page, probe, readPage, windowUpTo } from './log/reader.ts'
import type { Term } from './term.ts'
import { upkeep } from './upkeep.ts'

/** What wakes a resting leader before its time. */
export interface WakeUp {
  /** Resolves after `ms`, or earlier when there may be something. */
  rest(ms: number, signal: AbortSignal): Promise<void>
}

export const pollOnly: WakeUp = {
  async rest(ms, signal) {
    await delay(ms, undefined, { signal }).catch(() => {})
  },
}

/** Leads until the term is over: window after window, page after page. */
export async function lead<DB>(term: Term<DB>, wakeUp: WakeUp): Promise<void> {
  const { log, health } = term.parts
  const gap = term.check()
  const care = upkeep(term)
  await care.begin()
  if (gap !== null) {
    health.status = 'gap'
    health.lastError = gap
    term.options.logger?.error({ input: term.options.name, err: gap }, 'changes were dropped')
  }
  const rest = probeRest(() => performance.now())
  let numberBefore = 0n
  while (!term.isOver) {
    await care.whenDue()
    if (gap !== null || term.parts.isPaused()) {
      await term.pause(50)
      continue
    }
    const connection = await term.connection()
    const { pinned } = term.cursor
    if (pinned !== null) {
      await handle(term, await readPage(connection, log, term.cursor, pinned, limits(term)))
      continue
    }
    const seen = await probe(connection, log)
    const window = windowUpTo(term.cursor, seen, numberBefore)
    numberBefore = seen.lastNumber
    if (isEmptyWindow(term.cursor, window)) {
      term.advance(afterWindow(term.cursor, window))
      rest.seen(seen, false)
    } else {
      const page = await readPage(connection, log, term.cursor, window, limits(term))
      await handle(term, page)
      rest.seen(seen, page.changes.length > 0)
      if (page.changes.length > 0) continue
    }
    if (rest.wantsMark) {
      const [row] = await connection.rows(log.ownXid)
      rest.mark(BigInt(String(row?.[0])), seen.lastNumber)
    }
    await wakeUp.rest(rest.delayMs, term.signal)
  }
}

function limits<DB>(term: Term<DB>): Parameters<typeof readPage>[4] {
  const { batchSize, maxBatchBytes } = term.options
  return { locations: term.locations, lineage: term.lineage, rows: batchSize, bytes: maxBatchBytes }
}

/** Delivers what is in a page; what nobody wants to see only moves the cursor. */
async function handle<DB>(term: Term<DB>, page: Page): Promise<void> {
  const from = term.cursor
  const events = page.changes
    .map((change) => term.eventOf(change))
    .filter((event): event is FeedEvent => event !== null)
  const end = cursorAt(from, page, page.changes.at(-1))
  if (events.length === 0) {
    term.advance(end)
    return
  }
  const delivery: Delivery = {
    events,
    end,
    cursorAfter: (event) => ({ ...from, ownXids: term.cursor.ownXids, pinned: { ...page.window, lastSeq: event.seq } }),
  }
  const { handOver } = term.parts
  if (handOver === null) await deliver(term, delivery)
  else await deliverByHand(term, delivery, handOver)
}
