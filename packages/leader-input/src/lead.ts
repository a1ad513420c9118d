import { hasErrorCode } from '@x/lock-core'
import { backfillStep } from './backfill/backfill.ts'
import type { FeedEvent } from './event.ts'
import { type Delivery, deliver } from './handling/deliver.ts'
import { deliverByHand } from './handling/iterator.ts'
import { afterWindow, type PinnedWindow } from './log/cursor.ts'
import { type PageAhead, pageAhead } from './log/page-ahead.ts'
import { type ProbeRest, probeRest } from './log/probe.ts'
import {
  cursorAt,
  isEmptyWindow,
  type Page,
  type PageLimits,
  type PagePlace,
  type Probe,
  probe,
  readPage,
  windowUpTo,
} from './log/reader.ts'
import type { Term } from './term.ts'
import {
  type GapTrace,
  gapChannel,
  leadingChannel,
  type StepDownTrace,
  steppedDownChannel,
  type TermTrace,
} from './tracing.ts'
import { upkeep } from './upkeep.ts'
import type { WakeUp } from './wake-up.ts'

/** Leads until the term is over: window after window, page after page. */
export async function lead<DB>(term: Term<DB>, wakeUp: WakeUp): Promise<void> {
  const trace: TermTrace = { input: term.options.name, epoch: term.epoch }
  leadingChannel.publish(trace)
  let failure: unknown
  try {
    await leadOn(term, wakeUp)
  } catch (error) {
    failure = error
    throw error
  } finally {
    const ended: StepDownTrace = { ...trace, reason: reasonOf(term, failure) }
    steppedDownChannel.publish(ended)
  }
}

function reasonOf<DB>({ signal, isLeading }: Term<DB>, failure: unknown): StepDownTrace['reason'] {
  if (hasErrorCode(failure, 'FENCED')) return 'fenced'
  if (signal.aborted && !hasErrorCode(signal.reason, 'LOCK_LOST')) return 'stopped'
  // What fails once the lock is gone fails because of that.
  return failure === undefined || signal.aborted || !isLeading ? 'lost' : 'failed'
}

async function leadOn<DB>(term: Term<DB>, wakeUp: WakeUp): Promise<void> {
  const { health } = term.parts
  const gap = term.check()
  const care = upkeep(term)
  await care.begin()
  term.breathe = care.whenDue
  if (gap !== null) {
    health.status = 'gap'
    health.lastError = gap
    term.options.logger?.error({ input: term.options.name, err: gap }, 'changes were dropped')
    const trace: GapTrace = { input: term.options.name, fromSeq: gap.fromSeq, toSeq: gap.toSeq }
    gapChannel.publish(trace)
  }
  const rest = probeRest(() => performance.now())
  // Before an id that is over, and both before the snapshot that it is used with: see numberBound.
  let numberBefore = 0n
  while (!term.isOver) {
    await care.whenDue()
    if (gap !== null || term.parts.isPaused()) {
      await term.pause(50)
      continue
    }
    const { pinned, backfill } = term.cursor
    if (pinned !== null) {
      await deliverWindow(term, pinned)
      continue
    }
    if (backfill !== null) {
      await backfillStep(term, backfill, numberBefore, async (seen, before) => {
        await deliverWindow(term, windowUpTo(term.cursor, seen, before))
        numberBefore = seen.lastNumber
      })
      continue
    }
    const seen = await probe(await term.connection(), term.parts.log)
    const found = await deliverWindow(term, windowUpTo(term.cursor, seen, numberBefore))
    rest.seen(seen, found !== 'nothing')
    if (found === 'nothing') await takeRest(term, wakeUp, rest, seen)
    // A batch has an id of its own; what is passed over has none.
    else if (found === 'passed over') await (await term.connection()).rows(term.parts.log.ownXid)
    numberBefore = seen.lastNumber
  }
}

/** What a window had in it: `passed over` is what the options or the handler's own writes leave out. */
type Found = 'nothing' | 'passed over' | 'handled'

/** Delivers a window to its end, if the term lasts so long. */
async function deliverWindow<DB>(term: Term<DB>, window: PinnedWindow): Promise<Found> {
  if (isEmptyWindow(term.cursor, window)) {
    term.advance(afterWindow(term.cursor, window))
    return 'nothing'
  }
  const { batchSize, maxBatchBytes } = term.options
  let found: Found = 'nothing'
  let likelyLarge = false
  let ahead: PageAhead | null = null
  let rest: PinnedWindow | null = window
  while (rest !== null && !term.isOver) {
    const place: PagePlace = { cursor: term.cursor, window: rest, locations: term.locations }
    const limits = { rows: batchSize, bytes: maxBatchBytes, likelyLarge }
    const page: Page =
      (await ahead?.take(place, term.signal)) ??
      (await readPage(await term.connection(), term.parts.log, place, limits))
    ahead = null
    likelyLarge = !page.complete && page.changes.length < batchSize
    if (found === 'nothing' && page.changes.length > 0) found = 'passed over'
    const next = cursorAt(term.cursor, page, page.changes.at(-1))
    if (next.pinned !== null)
      ahead = readAhead(term, { ...place, cursor: next, window: next.pinned }, { ...limits, likelyLarge })
    try {
      if (await handle(term, page)) found = 'handled'
      const { pinned }: { pinned: PinnedWindow | null } = term.cursor
      // Between pages of a long window, too.
      if (pinned !== null) await term.breathe()
      rest = pinned
    } catch (error) {
      ahead?.drop()
      throw error
    }
  }
  ahead?.drop()
  return found
}

function readAhead<DB>(term: Term<DB>, place: PagePlace, limits: PageLimits): PageAhead {
  const { connections, log } = term.parts
  return pageAhead(connections, place, (connection) => readPage(connection, log, place, limits))
}

/** Delivers what is in a page, and tells whether there was something: what nobody wants to see only moves the cursor. */
async function handle<DB>(term: Term<DB>, page: Page): Promise<boolean> {
  const from = term.cursor
  const events: FeedEvent[] = []
  for (const change of page.changes) {
    const event = term.eventOf(change)
    if (event !== null) events.push(event)
  }
  const end = cursorAt(from, page, page.changes.at(-1))
  if (events.length === 0) {
    term.advance(end)
    return false
  }
  const delivery: Delivery = {
    events,
    end,
    cursorAfter: (event) => ({ ...from, pinned: { ...page.window, lastSeq: event.seq } }),
  }
  const { handOver } = term.parts
  if (handOver === null) await deliver(term, delivery)
  else await deliverByHand(term, delivery, handOver)
  return true
}

async function takeRest<DB>(term: Term<DB>, wakeUp: WakeUp, rest: ProbeRest, seen: Probe): Promise<void> {
  if (rest.wantsMark) {
    const [row] = await (await term.connection()).rows(term.parts.log.ownXid)
    rest.mark(BigInt(String(row?.[0])), seen.lastNumber)
  }
  await wakeUp.rest(rest.delayMs, term.signal)
}
