import type { LockLostReason } from './locker.ts'

/** Each failure has one code; `docs/errors.md` has a heading for each. */
export type ErrorCode =
  | 'LOCK_TIMEOUT'
  | 'LOCK_LOST'
  | 'LOCK_NOT_HELD'
  | 'STALE_FENCE'
  | 'DEADLOCK'
  | 'POOLER_DETECTED'
  | 'UNSUPPORTED'
  | SchemaErrorCode
  | 'PRIVILEGE'
  | 'NOT_IN_TRANSACTION'
  | 'QUERY_FAILED'
  | 'HANDLER_FAILED'
  | 'FEED_GAP'
  | 'INVALID_OPTIONS'
  | 'CONNECTION'
  | 'CLOSED'
  | 'FENCED'
  | 'NODE_EVICTED'

/** The three ways in which a schema does not fit the code. */
export type SchemaErrorCode = 'SCHEMA_MISSING' | 'SCHEMA_OUTDATED' | 'SCHEMA_NEWER'

/** What every error of this family takes. */
export interface CoordinationErrorOptions {
  /** The error underneath. */
  cause?: unknown
  /** Whether the same call may succeed later without any change; each class has its own default. */
  retryable?: boolean | undefined
}

/** The root of all our errors. Tell them apart by `code`: it survives two copies of a package in one process. */
export abstract class CoordinationError extends Error {
  readonly code: ErrorCode
  /** Whether the same call may succeed later without any change by the caller. */
  readonly retryable: boolean

  constructor(code: ErrorCode, message: string, options: CoordinationErrorOptions = {}) {
    super(message, 'cause' in options ? { cause: options.cause } : undefined)
    this.name = new.target.name
    this.code = code
    this.retryable = options.retryable ?? false
  }
}

/**
 * Tells whether `error` is one of ours, also when it comes from another copy of the package.
 *
 * @example
 * try { await locker.acquire('report', { waitTimeoutMs: 100 }) } catch (error) {
 *   if (!hasErrorCode(error, 'LOCK_TIMEOUT')) throw error
 * }
 */
export function hasErrorCode<C extends ErrorCode>(error: unknown, code: C): error is CoordinationError & { code: C } {
  return error instanceof Error && 'code' in error && error.code === code && 'retryable' in error
}

function limitOf(waitTimeoutMs: number): string {
  return waitTimeoutMs === Number.POSITIVE_INFINITY
    ? `the database's own limit (lock_timeout)`
    : `${Math.ceil(waitTimeoutMs)} ms`
}

/** `waitTimeoutMs` passed before the lock was granted, or a limit that the database itself sets. Nothing is held. */
export class LockTimeoutError extends CoordinationError {
  readonly key: string
  /** Infinity when it was the database that set a limit. */
  readonly waitTimeoutMs: number
  /** False when the store had not answered at all: whether somebody has the lock is not known. */
  readonly answered: boolean

  constructor(
    fields: { key: string; waitTimeoutMs: number /** @default true */; answered?: boolean | undefined },
    options: CoordinationErrorOptions = {},
  ) {
    const { key, waitTimeoutMs, answered = true } = fields
    const why = answered
      ? 'another holder or earlier waiters have it; wait longer, or see status() for the holder'
      : 'the database had not answered by then, so nobody need have it; look for a pool whose clients are all in use, or a database that is slow or away'
    super('LOCK_TIMEOUT', `lock ${quote(key)} was not granted within ${limitOf(waitTimeoutMs)}: ${why}`, {
      retryable: true,
      ...options,
    })
    this.key = key
    this.waitTimeoutMs = waitTimeoutMs
    this.answered = answered
  }
}

const lossExplained: Readonly<Record<LockLostReason, string>> = {
  'session-ended': 'the database session that held it ended',
  'lease-expired': 'its lease is over',
  deadline: 'no renewal was confirmed before its local deadline',
  forced: 'it was taken away by force',
  'max-hold': 'it was held for maxHoldMs',
  closed: 'its locker was closed',
}

/** The reason of `lock.signal`: the lock was held and is not any more, without a release. */
export class LockLostError extends CoordinationError {
  readonly key: string
  readonly reason: LockLostReason

  constructor(fields: { key: string; reason: LockLostReason }, options: CoordinationErrorOptions = {}) {
    // The one loss that mostly has its reason in the process itself, such as a pool without a free client.
    const late = fields.reason === 'deadline' && options.cause instanceof Error ? ` (${options.cause.message})` : ''
    super(
      'LOCK_LOST',
      `lock ${quote(fields.key)} was lost: ${lossExplained[fields.reason]}${late}; stop what it protects and acquire it again`,
      options,
    )
    this.key = fields.key
    this.reason = fields.reason
  }
}

/** Refresh or second release of a lock that is not ours any more. */
export class LockNotHeldError extends CoordinationError {
  readonly key: string

  constructor(fields: { key: string; operation: string }, options: CoordinationErrorOptions = {}) {
    super(
      'LOCK_NOT_HELD',
      `cannot ${fields.operation} lock ${quote(fields.key)}: it was released or lost before; use each lock once, or dispose of it, which is idempotent`,
      options,
    )
    this.key = fields.key
  }
}

/** A newer token was seen for this resource: the writer's lock has had a successor. */
export class StaleFenceError extends CoordinationError {
  readonly resource: string
  readonly token: bigint
  /** The highest token seen, where the store tells. */
  readonly newest: bigint | null

  constructor(
    fields: { resource: string; token: bigint; newest?: bigint | null },
    options: CoordinationErrorOptions = {},
  ) {
    const newest = fields.newest ?? null
    super(
      'STALE_FENCE',
      `fencing token ${fields.token} for ${quote(fields.resource)} is older than ${newest ?? 'one already seen'}: another holder came after; roll back and acquire the lock again`,
      options,
    )
    this.resource = fields.resource
    this.token = fields.token
    this.newest = newest
  }
}

/** The database broke a deadlock (40P01) by failing this statement. */
export class DeadlockError extends CoordinationError {
  constructor(message: string, options: CoordinationErrorOptions = {}) {
    super('DEADLOCK', message, { retryable: true, ...options })
  }
}

/** A session lock or LISTEN was asked for through a transaction pooler, where it would exclude nobody and hear nothing. */
export class PoolerDetectedError extends CoordinationError {
  constructor(message: string, options: CoordinationErrorOptions = {}) {
    super('POOLER_DETECTED', message, options)
  }
}

/** The server or the adapter cannot do this. */
export class UnsupportedError extends CoordinationError {
  constructor(message: string, options: CoordinationErrorOptions = {}) {
    super('UNSUPPORTED', message, options)
  }
}

/** The schema is missing, or too old or too new for this code. */
export class SchemaError extends CoordinationError {
  constructor(code: SchemaErrorCode, message: string, options: CoordinationErrorOptions = {}) {
    super(code, message, options)
  }
}

/** The role lacks a right; the message names the GRANT. */
export class PrivilegeError extends CoordinationError {
  constructor(message: string, options: CoordinationErrorOptions = {}) {
    super('PRIVILEGE', message, options)
  }
}

/** An executor that is not inside an open transaction was passed where one is needed. */
export class NotInTransactionError extends CoordinationError {
  constructor(message: string, options: CoordinationErrorOptions = {}) {
    super('NOT_IN_TRANSACTION', message, options)
  }
}

/** Any other database error. */
export class QueryError extends CoordinationError {
  /** Five characters, see the PostgreSQL manual, appendix A; null when the driver gave none. */
  readonly sqlState: string | null

  constructor(message: string, options: CoordinationErrorOptions & { sqlState?: string | null } = {}) {
    super('QUERY_FAILED', message, options)
    this.sqlState = options.sqlState ?? null
  }
}

/** The user's handler failed past its attempts; `cause` is its error. */
export class HandlerError extends CoordinationError {
  /** How often it was tried. */
  readonly attempts: number

  constructor(message: string, options: CoordinationErrorOptions & { attempts: number }) {
    super('HANDLER_FAILED', message, options)
    this.attempts = options.attempts
  }
}

/** Changes were dropped over the retention cap, or captured rows are known to be missing. */
export class FeedGapError extends CoordinationError {
  readonly fromSeq: bigint | null
  readonly toSeq: bigint | null

  constructor(
    message: string,
    options: CoordinationErrorOptions & { fromSeq?: bigint | null; toSeq?: bigint | null } = {},
  ) {
    super('FEED_GAP', message, options)
    this.fromSeq = options.fromSeq ?? null
    this.toSeq = options.toSeq ?? null
  }
}

/** Wrong options: thrown before any I/O. Names the option, what was expected and what was got; never prints a password. */
export class ConfigurationError extends CoordinationError {
  /** Path of the option, such as `ttlMs` or `retention.maxRows`; null when it is about several. */
  readonly option: string | null

  constructor(message: string, options: CoordinationErrorOptions & { option?: string | null } = {}) {
    super('INVALID_OPTIONS', message, options)
    this.option = options.option ?? null
  }
}

/** The database cannot be reached, or the connection broke before the answer: the statement may have run. */
export class ConnectionError extends CoordinationError {
  constructor(message: string, options: CoordinationErrorOptions = {}) {
    super('CONNECTION', message, { retryable: true, ...options })
  }
}

/** Used after, or while waiting at, `close()`. */
export class ClosedError extends CoordinationError {
  /** @param what the thing that was closed, such as `table locker` */
  constructor(what: string, options: CoordinationErrorOptions = {}) {
    super('CLOSED', `the ${what} is closed; create a new one`, options)
  }
}

/** This leader's epoch is over; its transaction was rolled back. */
export class FencedError extends CoordinationError {
  constructor(message: string, options: CoordinationErrorOptions = {}) {
    super('FENCED', message, options)
  }
}

/** The cluster declared this node down; it must rejoin. */
export class NodeEvictedError extends CoordinationError {
  constructor(message: string, options: CoordinationErrorOptions = {}) {
    super('NODE_EVICTED', message, options)
  }
}

function quote(name: string): string {
  return JSON.stringify(name.length > 120 ? `${name.slice(0, 117)}...` : name)
}
