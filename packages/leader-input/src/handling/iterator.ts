import { setTimeout as delay } from 'node:timers/promises'
import type { ChangeEvent } from '../change-event.ts'
import type { FeedEvent } from '../event.ts'
import type { Term } from '../term.ts'
import type { Delivery } from './deliver.ts'
import type { HandOver } from './hand-over.ts'

/** Acknowledgements are stored together: one that is lost means another delivery, which is what at least once allows. */
const storeEveryMs = 100

/** What else is due is looked at this often while the consumer takes its time. */
const lookEveryMs = 100

/** Delivers events one by one to an iterator. */
export async function deliverByHand<DB>(term: Term<DB>, delivery: Delivery, handOver: HandOver): Promise<void> {
  let storedAt = performance.now()
  let dirty = false
  const ended = new AbortController()
  const signal = AbortSignal.any([term.signal, ended.signal])
  const timer = (): Promise<'time'> => delay(lookEveryMs, 'time', { signal: ended.signal, ref: false })
  let time = timer()
  const acknowledgement = async (event: FeedEvent): Promise<boolean> => {
    const handed = handOver(event, signal)
    for (;;) {
      const first = await Promise.race([handed, time])
      if (first !== 'time') return first
      await term.breathe()
      time = timer()
    }
  }
  try {
    for (const event of delivery.events) {
      await term.whenResumed()
      // What does not fit is not handed out: the term ends with the reason, and the next one tries again.
      await event.validate()
      if (term.isOver || !(await acknowledgement(event))) return
      term.moved(event === delivery.events.at(-1) ? delivery.end : delivery.cursorAfter(event), 1)
      dirty = true
      if (performance.now() - storedAt < storeEveryMs) continue
      await term.store()
      dirty = false
      storedAt = performance.now()
    }
  } finally {
    // An event that was handed out and not acknowledged is taken back with it.
    ended.abort()
    time.catch(() => {})
    if (dirty && term.isLeading) await term.store()
  }
}

type Waiting = { readonly resolve: (acknowledged: boolean) => void; readonly event: FeedEvent }

/**
 * An iterator over what a run hands over.
 * @param start begins the run with its receiving end, and gives its end
 */
export function eventIterator<DB>(
  start: (handOver: HandOver, stop: AbortSignal) => Promise<void>,
): AsyncIterableIterator<ChangeEvent<DB>> {
  const stop = new AbortController()
  let ended: Promise<void> | null = null
  let failure: { readonly error: unknown } | null = null
  let isDone = false
  let offered: Waiting | null = null
  let taken: Waiting | null = null
  let wake: (() => void) | null = null
  let turn: Promise<unknown> = Promise.resolve()

  const handOver: HandOver = (event, signal) =>
    new Promise((resolve) => {
      if (signal.aborted || isDone) return resolve(false)
      const withdraw = (): void => {
        if (offered === waiting) offered = null
        if (taken === waiting) taken = null
        resolve(false)
      }
      const waiting: Waiting = {
        event,
        resolve: (acknowledged) => {
          signal.removeEventListener('abort', withdraw)
          resolve(acknowledged)
        },
      }
      signal.addEventListener('abort', withdraw, { once: true })
      offered = waiting
      wake?.()
    })

  const finish = async (): Promise<void> => {
    isDone = true
    taken?.resolve(false)
    offered?.resolve(false)
    taken = null
    offered = null
    stop.abort()
    wake?.()
    await ended?.catch(() => {})
  }

  const take = async (): Promise<IteratorResult<ChangeEvent<DB>>> => {
    taken?.resolve(true)
    taken = null
    ended ??= start(handOver, stop.signal).then(
      () => {
        isDone = true
        wake?.()
      },
      (error: unknown) => {
        isDone = true
        failure = { error }
        wake?.()
      },
    )
    while (offered === null && !isDone) {
      await new Promise<void>((resolve) => {
        wake = resolve
      })
    }
    wake = null
    if (failure !== null) {
      const { error } = failure
      failure = null
      throw error
    }
    if (offered === null || isDone) return { done: true, value: undefined }
    taken = offered
    offered = null
    return { done: false, value: taken.event as unknown as ChangeEvent<DB> }
  }

  return {
    next() {
      // One after the other, as with any async generator.
      const result = turn.then(take)
      turn = result.catch(() => {})
      return result
    },
    async return() {
      await finish()
      return { done: true, value: undefined }
    },
    async throw(error) {
      await finish()
      throw error
    },
    [Symbol.asyncIterator]() {
      return this
    },
  }
}
