import { startProgram } from '../process/guarded-program.ts'
import { requireProgram } from './system-program.ts'

export interface PgbouncerOptions {
  /** The server behind it: any database of it can be reached, by name. */
  readonly url: string
  readonly mode: 'session' | 'transaction' | 'statement'
  /** Server connections per database and user. @default 20 */
  readonly poolSize?: number | undefined
  /** More users than that of the URL, with their passwords. */
  readonly users?: Readonly<Record<string, string>> | undefined
  /** More lines of the [pgbouncer] section. */
  readonly settings?: Readonly<Record<string, string | number>> | undefined
}

export interface Pgbouncer extends AsyncDisposable {
  readonly port: number
  /** The same URL, through the pooler. */
  url(original: string): string
  log(): string
  /** Idempotent. */
  stop(): Promise<void>
}

const quote = (text: string): string => `"${text.replaceAll('"', '""')}"`

/**
 * Starts PgBouncer before a server, with its defaults but for what is asked here.
 *
 * @throws {Error} when it is not installed; ask `findProgram('pgbouncer')` first
 */
export const pgbouncer = async (options: PgbouncerOptions): Promise<Pgbouncer> => {
  const server = new URL(options.url)
  const users = { [decodeURIComponent(server.username)]: decodeURIComponent(server.password), ...options.users }
  const program = await startProgram({
    program: requireProgram('pgbouncer'),
    files: (port) => ({
      'pgbouncer.ini': [
        '[databases]',
        `* = host=${server.hostname} port=${server.port || 5432}`,
        '[pgbouncer]',
        'listen_addr = 127.0.0.1',
        `listen_port = ${port}`,
        'unix_socket_dir =',
        'auth_type = scram-sha-256',
        'auth_file = users.txt',
        `pool_mode = ${options.mode}`,
        `default_pool_size = ${options.poolSize ?? 20}`,
        'max_client_conn = 500',
        ...Object.entries(options.settings ?? {}).map(([name, value]) => `${name} = ${value}`),
        '',
      ].join('\n'),
      'users.txt': Object.entries(users)
        .map(([name, password]) => `${quote(name)} ${quote(password)}\n`)
        .join(''),
    }),
    args: () => ['pgbouncer.ini'],
    ready: /process up/,
  })
  const { port, log, stop } = program
  return {
    port,
    log,
    stop,
    url(original) {
      const url = new URL(original)
      url.hostname = '127.0.0.1'
      url.port = String(port)
      return url.href
    },
    [Symbol.asyncDispose]: stop,
  }
}
