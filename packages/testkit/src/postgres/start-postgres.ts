import { Client } from 'pg'
import { containerEngineAnswers, startContainer } from './container.ts'
import { startEmbedded } from './embedded.ts'
import type { ServerSettings } from './settings.ts'
import { type PostgresMajor, wantedMajor } from './version.ts'

/** Where a server came from. */
export type PostgresProvider = 'url' | 'container' | 'embedded'

export interface StartPostgresOptions {
  /** @default the environment variable PG_VERSION, else 18 */
  version?: PostgresMajor | undefined
  /** Server settings on top of ours. An existing server (`DATABASE_URL`) keeps its own. */
  settings?: ServerSettings | undefined
  /**
   * Flush commits to disk as a production server does; for benchmarks.
   * @default false
   */
  durable?: boolean | undefined
  /**
   * `auto`: the environment variable `DATABASE_URL` when set, else a container when an engine answers, else embedded.
   * @default 'auto'
   */
  provider?: 'auto' | 'embedded' | undefined
  /** Told about what happens, one line at a time. @default silence */
  report?: ((line: string) => void) | undefined
}

export interface PostgresServer extends AsyncDisposable {
  /** Superuser (or owner of an existing server) on its maintenance database. */
  readonly url: string
  readonly major: number
  readonly provider: PostgresProvider
  /** Lets the server outlive this process; resolves to how to end it, null when it is not ours to end. */
  keep(): Promise<string | null>
  /** Stops the server and removes everything of it; leaves an existing server alone. Idempotent. */
  stop(): Promise<void>
}

const majorOf = async (connectionString: string): Promise<number> => {
  const client = new Client({ connectionString, application_name: 'testkit' })
  await client.connect()
  try {
    const { rows } = await client.query<{ num: number }>(`SELECT current_setting('server_version_num')::int AS num`)
    return Math.floor((rows[0]?.num ?? 0) / 10_000)
  } finally {
    await client.end()
  }
}

interface Found {
  readonly url: string
  readonly provider: PostgresProvider
  readonly close: () => Promise<void>
  readonly keep: () => Promise<string | null>
}

const find = async (options: StartPostgresOptions): Promise<Found> => {
  const { settings = {}, durable = false, provider = 'auto', report = () => {} } = options
  const major = wantedMajor(options.version === undefined ? undefined : String(options.version))
  const existing = process.env.DATABASE_URL
  if (provider === 'auto' && existing !== undefined && existing !== '') {
    return { url: existing, provider: 'url', close: async () => {}, keep: async () => null }
  }
  if (provider === 'auto' && (await containerEngineAnswers())) {
    try {
      const container = await startContainer({ major, settings, durable })
      return { url: container.url, provider: 'container', close: container.close, keep: async () => null }
    } catch (error) {
      report(
        `The container engine answers but gave no PostgreSQL ${major} (${String(error)}); using embedded binaries.`,
      )
    }
  }
  const server = await startEmbedded({ major, settings, durable })
  return {
    url: server.url,
    provider: 'embedded',
    close: () => server.close(),
    async keep() {
      await server.keep()
      return `kill ${server.keeperPid}`
    },
  }
}

/**
 * PostgreSQL for tests, examples and benchmarks: an existing server, a container, or embedded binaries, in this order.
 * Embedded servers listen on 127.0.0.1 only and are gone, with their files, seconds after this process ended for any
 * reason, SIGKILL included.
 *
 * @throws {Error} that says what to install or to set when there is no way to have that version
 * @example
 * await using server = await startPostgres({ settings: { wal_level: 'logical' } })
 * const client = new Client({ connectionString: server.url })
 */
export const startPostgres = async (options: StartPostgresOptions = {}): Promise<PostgresServer> => {
  const { url, provider, close, keep } = await find(options)
  const major = await majorOf(url)
  const wanted = options.version ?? (process.env.PG_VERSION ? wantedMajor() : undefined)
  if (provider === 'url' && wanted !== undefined && wanted !== major) {
    throw new Error(`DATABASE_URL: expected a server of version ${wanted}, got version ${major}`)
  }
  return { url, major, provider, keep, stop: close, [Symbol.asyncDispose]: close }
}
