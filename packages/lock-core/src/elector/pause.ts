import type { Clock } from '../adapter/clock.ts'

/** Resolves to true after `ms` milliseconds, or to false as soon as the signal aborts. */
export function elapse(clock: Clock, ms: number, signal?: AbortSignal): Promise<boolean> {
  return new Promise((resolve) => {
    if (signal?.aborted) {
      resolve(false)
      return
    }
    const stop = (): void => {
      timer.cancel()
      resolve(false)
    }
    const timer = clock.schedule(
      () => {
        signal?.removeEventListener('abort', stop)
        resolve(true)
      },
      ms,
      { keepAlive: true },
    )
    signal?.addEventListener('abort', stop, { once: true })
  })
}

/** `ms` ± 20 %, so that processes which failed together do not retry together. */
export function jittered(ms: number, random: () => number): number {
  return ms * (0.8 + 0.4 * random())
}
