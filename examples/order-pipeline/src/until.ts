import { setTimeout as delay } from 'node:timers/promises'

/** How long a cluster may go without a leader before the demo gives up: also on a machine with too much to do. */
const patienceMs = 90_000

/** Looks again and again until `find` finds something. */
export const until = async <T>(
  what: string,
  signal: AbortSignal,
  find: () => Promise<T | null> | T | null,
): Promise<T> => {
  const giveUpAt = performance.now() + patienceMs
  for (;;) {
    signal.throwIfAborted()
    const found = await find()
    if (found !== null) return found
    if (performance.now() > giveUpAt) throw new Error(`expected ${what}; gave up after ${patienceMs / 1_000} s`)
    await delay(20, undefined, { signal }).catch(() => {})
  }
}
