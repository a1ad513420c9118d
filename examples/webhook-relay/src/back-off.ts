const firstDelayMs = 100
/** An endpoint that is back hears of it after this long at most, however long it was away. */
export const longestDelayMs = 30_000

/**
 * How long to wait after `failures` attempts in a row: doubling, with jitter so that many relays do not come at once, and
 * never before the time that the endpoint asked for.
 * @param random from 0 to less than 1
 * @param retryAfterSeconds the `Retry-After` of the answer; dates and nonsense count as not given
 */
export const backOffMs = (failures: number, random: number, retryAfterSeconds: string | null = null): number => {
  const ceiling = Math.min(longestDelayMs, firstDelayMs * 2 ** Math.min(failures - 1, 20))
  const asked = /^\d{1,6}$/.test(retryAfterSeconds ?? '') ? Number(retryAfterSeconds) * 1_000 : 0
  return Math.max(ceiling * (0.5 + random / 2), Math.min(asked, longestDelayMs))
}
