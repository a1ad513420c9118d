import {
  ConnectionError,
  type CoordinationError,
  DeadlockError,
  hasErrorCode,
  PrivilegeError,
  QueryError,
  SchemaError,
  UnsupportedError,
} from '@x/lock-core'

/** What the driver's errors carry, read defensively: `pg` may be present in several copies, or be another driver. */
interface DriverError {
  readonly message: string
  /** SQLSTATE of a server's error, or the system's code of a socket's. */
  readonly code: string | null
}

/** SQLSTATEs after which the same statement may succeed as it is. */
const transient = new Set([
  '40001', // serialization_failure
  '55P03', // lock_not_available
  '57014', // query_canceled: statement_timeout or pg_cancel_backend
  '53200', // out_of_memory
  '53400', // configuration_limit_exceeded
])

/** The server cannot be used now, or ended the session: nothing is wrong with the statement. */
const unreachable = new Set([
  '57P01', // admin_shutdown
  '57P02', // crash_shutdown
  '57P03', // cannot_connect_now
  '57P05', // idle_session_timeout
  '25P03', // idle_in_transaction_session_timeout
  '25P04', // transaction_timeout
  '53300', // too_many_connections
])

/** The way in is closed until somebody changes a setting. */
const refusedLogin = new Set([
  '28000', // invalid_authorization_specification
  '28P01', // invalid_password
  '3D000', // invalid_catalog_name
  '57P04', // database_dropped
])

/** Messages of `pg` and `pg-pool` for a connection that is gone; they have no code. */
const brokenConnection =
  /^(Connection terminated|Client has encountered a connection error|Client was closed|timeout expired|timeout exceeded when trying to connect|Query read timeout|Cannot use a pool after calling end|The server does not support SSL|server closed the connection)/i

/**
 * One of our errors for whatever the driver threw; one of ours passes through untouched.
 *
 * @param context what was attempted, such as `statement lock_grant`; begins the message
 */
export function fromPgError(error: unknown, context: string): CoordinationError {
  if (isOurs(error)) return error
  const { message, code } = driverError(error)
  const said = `${context}: ${message}`
  const options = { cause: error }
  if (code === null) {
    return brokenConnection.test(message) ? new ConnectionError(said, options) : new QueryError(said, options)
  }
  if (!isSqlState(code)) return new ConnectionError(said, options)
  if (code === '40P01') return new DeadlockError(said, options)
  if (code === '42501') {
    return new PrivilegeError(
      `${said}; ${missingGrant(message)}; docs/operations.md lists what each role needs`,
      options,
    )
  }
  if (code === '42P01' || code === '3F000' || code === '42883') {
    return new SchemaError('SCHEMA_MISSING', `${said}; run this package's migrate(pool, { schema })`, options)
  }
  if (code === '42703') {
    return new SchemaError('SCHEMA_OUTDATED', `${said}; run this package's migrate(pool, { schema })`, options)
  }
  if (code === '25006') {
    return new UnsupportedError(`${said}; the server is read-only: connect to the primary`, {
      ...options,
      // A standby may be promoted, and default_transaction_read_only be taken back.
      retryable: true,
    })
  }
  if (code === '0A000') return new UnsupportedError(said, options)
  if (refusedLogin.has(code)) return new ConnectionError(said, { ...options, retryable: false })
  if (code.startsWith('08') || unreachable.has(code)) return new ConnectionError(said, options)
  return new QueryError(said, { ...options, sqlState: code, retryable: transient.has(code) })
}

/** The SQLSTATE of an error of the driver or of ours, for code that reacts to a single one. */
export function sqlStateOf(error: unknown): string | null {
  if (typeof error !== 'object' || error === null) return null
  if ('code' in error && typeof error.code === 'string' && isSqlState(error.code)) return error.code
  return 'cause' in error ? sqlStateOf(error.cause) : null
}

/** SQLSTATEs after which the transaction is run again from its start. */
export function isConflict(error: unknown): boolean {
  const state = sqlStateOf(error)
  return state === '40001' || state === '40P01'
}

/** What each kind of object asks for; the server's message names the object, where it speaks English. */
const rights: Readonly<Record<string, string>> = {
  table: 'SELECT, INSERT, UPDATE, DELETE ON TABLE',
  view: 'SELECT ON',
  sequence: 'USAGE ON SEQUENCE',
  schema: 'USAGE ON SCHEMA',
  function: 'EXECUTE ON FUNCTION',
  database: 'CONNECT, CREATE ON DATABASE',
}

function missingGrant(message: string): string {
  const denied = /permission denied for (\w+) (.+)$/.exec(message)
  const right = rights[denied?.[1] ?? '']
  return right === undefined
    ? 'GRANT the role the right to it'
    : `run GRANT ${right} ${denied?.[2]} TO <role>, or the part of it that is missing`
}

function isOurs(error: unknown): error is CoordinationError {
  return (
    error instanceof Error &&
    'retryable' in error &&
    'code' in error &&
    typeof error.code === 'string' &&
    hasErrorCode(error, error.code as CoordinationError['code'])
  )
}

function isSqlState(code: string): boolean {
  return /^[0-9A-Z]{5}$/.test(code) && !/^E[A-Z]{4}$/.test(code)
}

function driverError(error: unknown): DriverError {
  if (typeof error !== 'object' || error === null) {
    return { message: String(error), code: null }
  }
  // A host with several addresses fails with one error for all of them, whose message is empty.
  const inner = error instanceof AggregateError && error.message === '' ? error.errors[0] : undefined
  if (inner !== undefined) return driverError(inner)
  return {
    message: 'message' in error && typeof error.message === 'string' ? error.message : String(error),
    code: 'code' in error && typeof error.code === 'string' && error.code !== '' ? error.code : null,
  }
}
