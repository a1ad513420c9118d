/** What is said of a connection that cannot be had, or that is gone: what was expected, and what to do. */
export interface ConnectionFailure {
  readonly expected: string
  readonly advice: string
  /** False: nothing will change until somebody changes a setting. */
  readonly retryable: boolean
}

const failure = (expected: string, advice: string, retryable = true): ConnectionFailure => ({
  expected,
  advice,
  retryable,
})

const nobodyThere = failure(
  'a PostgreSQL server that answers',
  'check that it runs, and the host and port of the connection',
)
const broken = failure(
  'the connection to last',
  'what was under way may have been carried out; try again, and if it goes on look into the log of the server and of what stands between',
)
/** What poolers say of everything that they do not like. */
const refused = failure('the server or pooler to go on', 'its message and its log say why')
const ended = failure('the session to last', 'the server or an administrator ended it; try again')
const login = failure(
  'the server to accept the login',
  'check user and password of the connection, and pg_hba.conf of the server',
  false,
)
const noDatabase = failure('a database of that name', 'create it, or correct the name in the connection', false)
const noTls = failure(
  'both sides to agree on TLS',
  'set ssl (sslmode in a connection string) to what the server offers',
  false,
)
const certificate = failure(
  'a certificate that can be verified',
  'give its authority as ssl.ca (sslrootcert in a connection string), and use the host name that it was made for',
  false,
)

/** By SQLSTATE or the system's code. */
const byCode: Readonly<Record<string, ConnectionFailure>> = {
  ECONNREFUSED: nobodyThere,
  ETIMEDOUT: nobodyThere,
  EHOSTUNREACH: nobodyThere,
  ENETUNREACH: nobodyThere,
  ENOENT: nobodyThere,
  ENOTFOUND: failure('a host name that can be resolved', 'check the host of the connection'),
  EAI_AGAIN: failure('a host name that can be resolved', 'check the host of the connection, and the name service'),
  '28000': login,
  '28P01': login,
  '3D000': noDatabase,
  '57P04': noDatabase,
  '53300': failure('a free slot for a connection', 'lower max of your pools, or raise max_connections of the server'),
  '57P03': failure('a server that takes connections', 'it is starting, stopping or recovering; try again'),
  '57P01': ended,
  '57P02': ended,
  '57P05': ended,
  '25P03': ended,
  '25P04': ended,
}

/** Messages of `pg` and `pg-pool` that come without a code. */
const byMessage: readonly (readonly [RegExp, ConnectionFailure])[] = [
  [/^(timeout expired|timeout exceeded when trying to connect)/i, nobodyThere],
  [/^(SASL: |password must be a string)/i, login],
  [/^(The server does not support SSL|There was an error establishing an SSL)/i, noTls],
  [
    /^Cannot use a pool after calling end/i,
    failure('an open pool', 'end it after everything that uses it was closed', false),
  ],
]

/** Messages of a connection that is gone. */
const brokenMessage =
  /^(Connection terminated|Client has encountered a connection error|Client was closed|Query read timeout|server closed the connection)/i

/** For what is thrown while connecting and nobody knows, such as by a function that gives the password. */
export const noConnection: ConnectionFailure = failure('to connect', 'see the error that is its cause')

/** Null when it was no failure of the connection. */
export function connectionFailure(message: string, code: string | null): ConnectionFailure | null {
  if (code === null) {
    return byMessage.find(([pattern]) => pattern.test(message))?.[1] ?? (brokenMessage.test(message) ? broken : null)
  }
  if (byCode[code] !== undefined) return byCode[code]
  if (code === '08P01') return refused
  if (code.startsWith('08')) return broken
  if (isSqlState(code)) return null
  return /CERT|SIGNATURE|ISSUER/.test(code) ? certificate : /^(ERR_SSL|ERR_TLS|EPROTO)/.test(code) ? noTls : broken
}

/** Of the server, and not of the system. */
export function isSqlState(code: string): boolean {
  return /^[0-9A-Z]{5}$/.test(code) && !/^E[A-Z]{4}$/.test(code)
}
