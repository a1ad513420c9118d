/** What an input is doing, as far as this process knows. */
export interface InputHealth {
  /**
   * `stopped`: nobody called run() or events(). `standby`: another replica leads, or the database is away. `halted`: leads,
   * and an event cannot be handled. `gap`: leads, and changes were dropped that it had not handled: see `lag().gap`.
   */
  readonly status: 'stopped' | 'standby' | 'leading' | 'halted' | 'gap'
  /** Of this process's leadership; null when it does not lead. */
  readonly epoch: bigint | null
  /** The last thing that went wrong; null when nothing has since the last success. */
  readonly lastError: unknown
  /** How capture differs from what the options want, one line each; the leader looks every second. */
  readonly drift: readonly string[]
}

/** The mutable side of it. */
export interface HealthRecord {
  status: InputHealth['status']
  epoch: bigint | null
  lastError: unknown
  drift: readonly string[]
}
