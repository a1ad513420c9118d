/** `exclusive`: one holder. `shared`: any number of shared holders and no exclusive one. */
export type LockMode = 'exclusive' | 'shared'

/**
 * Why a lock was lost.
 *
 * - `session-ended`: the connection that the lock lived in is gone
 * - `lease-expired`: the store says that the lease is over, or that it belongs to another grant
 * - `deadline`: the local deadline passed before a renewal was confirmed; the store may still think that we hold it
 * - `forced`: somebody took it away on purpose
 * - `max-hold`: `maxHoldMs` passed
 * - `closed`: the locker was closed
 */
export type LockLostReason = 'session-ended' | 'lease-expired' | 'deadline' | 'forced' | 'max-hold' | 'closed'

/** What an adapter promises, for callers and for the conformance suite. */
export interface LockerCapabilities {
  readonly modes: readonly LockMode[]
  /** `durable`: tokens increase over restart and failover; `process`: as long as this process lives; `none`: null tokens. */
  readonly fencing: 'durable' | 'process' | 'none'
  /** The store itself ends a grant at its ttl, so that a crashed holder blocks nobody for longer. */
  readonly lease: boolean
  /** Waiters are served in order: `global` across processes, `process` within each process. */
  readonly fifo: 'global' | 'process'
  /** A grant survives a restart of the store. */
  readonly durable: boolean
  /** Holders in other processes are excluded. */
  readonly crossProcess: boolean
  /** `before-regrant`: a holder knows of its loss before anyone else is granted the lock. */
  readonly lossNotice: 'before-regrant' | 'best-effort'
}

/** Options of one attempt. */
export interface TryAcquireOptions {
  /** @default 'exclusive' */
  mode?: LockMode | undefined
  /**
   * Milliseconds, at least 100; `Infinity` holds until release.
   * @default the locker's: 30_000 for leases in a table, Infinity for advisory and memory locks
   */
  ttlMs?: number | undefined
  /**
   * `auto`: the locker renews a lease it gave a ttl by default for as long as the process lives. `manual`: call `refresh()`.
   * @default 'auto'
   */
  renew?: 'auto' | 'manual' | undefined
  /**
   * Milliseconds after which the hold ends although it was renewed: a hung holder does not keep others out for ever.
   * @default Infinity
   */
  maxHoldMs?: number | undefined
  /**
   * Milliseconds for which the key stays taken, counted from the grant, even when `release()` comes earlier (leases only).
   * @default 0
   */
  minHoldMs?: number | undefined
  /** Shown by `status()`; at most 4 KiB as JSON. */
  metadata?: Readonly<Record<string, string>> | undefined
  /** Ends the wait only, never a granted lock; the call rejects with `signal.reason`. */
  signal?: AbortSignal | undefined
}

/** Options of an acquire that waits. */
export interface AcquireOptions extends TryAcquireOptions {
  /**
   * Milliseconds until `LockTimeoutError`; 0 is one attempt.
   * @default Infinity
   */
  waitTimeoutMs?: number | undefined
}

/** One grant. It stays what it was when it is over: a lost or released lock never becomes held again. */
export interface Lock extends AsyncDisposable {
  readonly key: string
  readonly mode: LockMode
  /** Increases strictly with each grant of the key; hand it to whatever the lock protects. Null without fencing. */
  readonly fencingToken: bigint | null
  /** Who holds it, as `status()` shows it. */
  readonly sessionId: string
  readonly acquiredAt: Date
  /** Milliseconds, as of the last acquire or refresh; `Infinity` = until release. */
  readonly ttlMs: number
  /** Aborts when the lock is lost, with a `LockLostError`; not on release. `aborted` is exact whenever it is read. */
  readonly signal: AbortSignal
  /** Exact at the moment of the call, also after a blocked event loop or a stopped process. Touches no network. */
  isHeld(): boolean
  /** Local deadline minus now in milliseconds; 0 when not held, Infinity without a deadline. */
  remainingMs(): number
  /** @throws {LockLostError} when the lock was lost. @throws {LockNotHeldError} when it was released. */
  assertHeld(): void
  /**
   * Starts the ttl anew, under `renew: 'auto'` too; may shorten it.
   * @param ttlMs milliseconds, at least 100; by default the current ttl
   * @throws {LockNotHeldError} when the lock is not ours any more
   */
  refresh(ttlMs?: number): Promise<void>
  /** @throws {LockNotHeldError} on the second call, and when the lock was lost. `await using` and dispose are silent then. */
  release(): Promise<void>
}

/** One holder as the store shows it. */
export interface LockHolder {
  readonly mode: LockMode
  readonly sessionId: string | null
  readonly acquirerName: string | null
  readonly acquirerAddress: string | null
  readonly pid: number | null
  readonly acquiredAt: Date | null
  readonly expiresAt: Date | null
  readonly fencingToken: bigint | null
  readonly metadata: Readonly<Record<string, string>> | null
}

/** A key as the store shows it; the scalars are those of the first holder. */
export interface LockStatus {
  readonly key: string
  readonly isAcquired: boolean
  readonly mode: LockMode | null
  readonly sessionId: string | null
  readonly acquirerName: string | null
  readonly acquirerAddress: string | null
  readonly acquiredAt: Date | null
  readonly expiresAt: Date | null
  readonly fencingToken: bigint | null
  readonly metadata: Readonly<Record<string, string>> | null
  readonly waiters: number
  readonly holders: readonly LockHolder[]
}

/**
 * Gives out locks. Every adapter implements this interface and passes `lockerConformance()`.
 * Keys are well-formed strings of 1 byte to 1 KiB of UTF-8 without NUL; others are refused with `ConfigurationError`.
 */
export interface Locker extends AsyncDisposable {
  readonly capabilities: LockerCapabilities
  /** One attempt: the lock, or null when somebody else has it. Contention is not an error. */
  tryAcquire(key: string, options?: TryAcquireOptions): Promise<Lock | null>
  /**
   * Waits in line until the lock is granted.
   * @throws {LockTimeoutError} when `waitTimeoutMs` passed
   * @throws {ClosedError} when the locker was closed
   */
  acquire(key: string, options?: AcquireOptions): Promise<Lock>
  /**
   * All or nothing in one statement: one lock for each entry, in their order. Entries that are one lock (the same key twice,
   * or two with one identity) get the same `Lock`, which is released once. Present where the adapter can.
   */
  tryAcquireMany?(keys: readonly string[], options?: TryAcquireOptions): Promise<readonly Lock[] | null>
  /** Two keys with one identity are one lock. Default: the key itself. */
  identityOf?(key: string): string | bigint
  status(key: string): Promise<LockStatus>
  /** Resolves when the store answers. */
  ping(): Promise<void>
  /** Idempotent. Waiters reject with `ClosedError`, signals of held locks abort with reason `closed`. */
  close(): Promise<void>
}
