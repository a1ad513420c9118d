/** How much of what is pending is tried next, and how often that has been tried. */
export interface Attempt {
  /** Events, from the first pending one on. */
  readonly size: number
  /** 1 for the first try. */
  readonly number: number
  /** Whether the batch is being split to find the event that fails. */
  readonly splitting: boolean
}

/** What comes after a failure. */
export type AfterFailure =
  | { readonly kind: 'again'; readonly attempt: Attempt; readonly delayMs: number }
  /** The first pending event fails by itself, past its attempts. */
  | { readonly kind: 'poison'; readonly attempts: number }

const firstDelayMs = 50
/** A halted input looks again at least this often. */
export const longestRetryMs = 30_000

export function firstAttempt(pending: number): Attempt {
  return { size: pending, number: 1, splitting: false }
}

/** After a success the search goes on with twice as many, up to all that are pending. */
export function afterSuccess({ size, splitting }: Attempt, pending: number): Attempt {
  return splitting
    ? { size: Math.min(pending, size * 2), number: 1, splitting: size * 2 < pending }
    : firstAttempt(pending)
}

/** Tries again up to `maxAttempts`, then halves the batch until one event is left that fails alone. */
export function afterFailure(attempt: Attempt, maxAttempts: number, random: () => number): AfterFailure {
  const { size, number, splitting } = attempt
  if (size === 1 && (splitting || number >= maxAttempts)) return { kind: 'poison', attempts: number }
  const split = splitting || number >= maxAttempts
  return {
    kind: 'again',
    attempt: { size: split ? Math.ceil(size / 2) : size, number: number + 1, splitting: split },
    delayMs: split ? 0 : retryDelayMs(number, random),
  }
}

/** Exponential with full jitter above a half. */
export function retryDelayMs(failures: number, random: () => number): number {
  const ceiling = Math.min(longestRetryMs, firstDelayMs * 2 ** Math.min(failures - 1, 20))
  return ceiling * (0.5 + random() / 2)
}
