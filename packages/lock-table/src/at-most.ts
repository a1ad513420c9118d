import { systemClock } from '@x/lock-core/adapter'

/** Resolves to true when the work is done, to false when it takes longer than so many milliseconds; it goes on then. */
export const atMost = async (work: Promise<void>, limitMs: number): Promise<boolean> => {
  const { promise, resolve } = Promise.withResolvers<boolean>()
  const timer = systemClock.schedule(() => resolve(false), limitMs, { keepAlive: true })
  try {
    return await Promise.race([work.then(() => true), promise])
  } finally {
    timer.cancel()
  }
}
