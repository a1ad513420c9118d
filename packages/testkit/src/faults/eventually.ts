import { setTimeout as delay } from 'node:timers/promises'

export interface EventuallyOptions {
  /** Milliseconds until it fails; generous, because only a test that fails pays for it. @default 30_000 */
  deadlineMs?: number | undefined
  /** Milliseconds between two looks. @default 10 */
  everyMs?: number | undefined
  /** What is waited for, for the message. */
  what?: string | undefined
}

type There<T> = Exclude<T, false | null | undefined>

const isThere = <T>(value: T): value is There<T> => value !== false && value !== null && value !== undefined

/** Thrown by a condition that can never come true any more: `eventually` gives up at once. */
export class Hopeless extends Error {}

/**
 * Waits until the condition gives something other than `false`, `null` or `undefined` and resolves to it. A condition
 * that throws (an assertion) is looked at again; its last error is the cause of ours.
 *
 * @throws {Error} when the deadline passes
 * @example
 * await eventually(() => locker.state === 'closed', { deadlineMs: 2_000, what: 'the locker to close' })
 */
export const eventually = async <T>(
  condition: () => T | Promise<T>,
  { deadlineMs = 30_000, everyMs = 10, what }: EventuallyOptions = {},
): Promise<There<T>> => {
  const giveUpAt = performance.now() + deadlineMs
  let cause: unknown
  for (;;) {
    try {
      const value = await condition()
      if (isThere(value)) return value
      cause = undefined
    } catch (error) {
      if (error instanceof Hopeless) throw error
      cause = error
    }
    if (performance.now() > giveUpAt) {
      const last = cause instanceof Error ? `; last: ${cause.message}` : ''
      throw new Error(`waited ${deadlineMs} ms for ${what ?? condition.toString()}${last}`, { cause })
    }
    await delay(everyMs)
  }
}
