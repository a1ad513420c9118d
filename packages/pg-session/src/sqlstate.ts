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
import { type ConnectionFailure, connectionFailure, isSqlState, noConnection } from './connection-failure.ts'

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

/**
 * One of our errors for whatever the driver threw; one of ours passes through untouched.
 *
 * @param context what was attempted, such as `statement lock_grant`; ends the message
 */
export function fromPgError(error: unknown, context: string): CoordinationError {
  if (isOurs(error)) return error
  const { message, code } = driverError(error)
  const options = { cause: error }
  const say = (what: string): string => `${what} (${context})`
  const failure = connectionFailure(message, code)
  if (failure !== null) return failed(failure, error, context)
  if (code === null) return new QueryError(say(message), options)
  if (code === '40P01') return new DeadlockError(say(`${message}; run the transaction again`), options)
  if (code === '42501') {
    const said = say(`${message}: ${missingGrant(message)}; docs/operations.md lists what each role needs`)
    return new PrivilegeError(said, options)
  }
  if (code === '42P01' || code === '3F000' || code === '42883') {
    return new SchemaError('SCHEMA_MISSING', say(`${message}: ${anyMigration}`), options)
  }
  if (code === '42703') return new SchemaError('SCHEMA_OUTDATED', say(`${message}: ${anyMigration}`), options)
  if (code === '25006') {
    return new UnsupportedError(say(`${message}: the server is read-only; connect to the primary`), {
      ...options,
      // A standby may be promoted, and default_transaction_read_only be taken back.
      retryable: true,
    })
  }
  if (code === '0A000') return new UnsupportedError(say(message), options)
  return new QueryError(say(message), { ...options, sqlState: code, retryable: transient.has(code) })
}

/** The same for an error of connecting, where also what nobody knows is a failure of the connection. */
export function fromConnectError(error: unknown, context: string): CoordinationError {
  const ours = fromPgError(error, context)
  return ours !== error && hasErrorCode(ours, 'QUERY_FAILED') && driverError(error).code === null
    ? failed(noConnection, error, context)
    : ours
}

function failed(failure: ConnectionFailure, error: unknown, context: string): ConnectionError {
  const { expected, advice, retryable } = failure
  return new ConnectionError(
    `database connection: expected ${expected}, got: ${driverError(error).message}; ${advice} (${context})`,
    { cause: error, retryable },
  )
}

/** Where it is not known whose tables are missing. */
const anyMigration =
  "run migrate(pool) of the package that threw this, such as import { migrate } from '@x/lock-table/migrations', and compare its schema option"

/** The SQLSTATE of an error of the driver or of ours, for code that reacts to a single one. */
export function sqlStateOf(error: unknown): string | null {
  if (typeof error !== 'object' || error === null) return null
  if ('code' in error && typeof error.code === 'string' && isSqlState(error.code)) return error.code
  return 'cause' in error ? sqlStateOf(error.cause) : null
}

/**
 * Whether the server answered with an error after which the connection goes on. FATAL and PANIC end the session, and what has
 * no severity is of the driver or the system: the statement may still run.
 */
export function isAnswer(error: unknown): boolean {
  if (typeof error !== 'object' || error === null) return false
  const severity: unknown = Reflect.get(error, 'severity')
  const code: unknown = Reflect.get(error, 'code')
  return typeof code === 'string' && severity !== undefined && severity !== 'FATAL' && severity !== 'PANIC'
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
