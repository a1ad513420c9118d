/** Ends a subscription; calling it again does nothing. */
export type Unsubscribe = () => void

/** Where a package writes what an operator should see. Structural, in pino's order of arguments; without one there is silence. */
export interface Logger {
  debug(fields: object, message: string): void
  info(fields: object, message: string): void
  warn(fields: object, message: string): void
  error(fields: object, message: string): void
}

/**
 * Wraps one statement, never a whole operation; a `cockatiel` policy (circuit breaker, bulkhead, retry) fits as it is.
 * Renewals, heartbeats, beats and releases bypass it, because an open breaker must not cost a lock. Contention is a
 * success to the policy, not a failure.
 */
export interface Policy {
  execute<T>(fn: (context: { readonly signal?: AbortSignal }) => Promise<T>): Promise<T>
}

/** Options that everything which talks to a database takes. */
export interface ObservabilityOptions {
  /** @default silence */
  logger?: Logger | undefined
  /** @default statements are sent as they are */
  policy?: Policy | undefined
}
