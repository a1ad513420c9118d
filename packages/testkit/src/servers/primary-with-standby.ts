import { withAdmin } from '../database/admin.ts'
import { eventually } from '../faults/eventually.ts'
import { type TcpProxy, tcpProxy } from '../faults/tcp-proxy.ts'
import { startEmbedded } from '../postgres/embedded.ts'
import { asPrivate, type PrivatePostgres } from '../postgres/private-postgres.ts'
import type { ServerSettings } from '../postgres/settings.ts'
import { type PostgresMajor, wantedMajor } from '../postgres/version.ts'

export interface PrimaryWithStandby extends AsyncDisposable {
  readonly primary: PrivatePostgres
  readonly standby: PrivatePostgres
  /** The line that the standby follows the primary on; hold or cut it, and the standby misses commits. */
  readonly replication: TcpProxy
  /** Resolves when the standby has replayed everything that the primary has written by now. */
  caughtUp(): Promise<void>
  /** Makes the standby a primary, of a new timeline. The old primary goes on taking writes until somebody stops it. */
  promote(): Promise<void>
}

export interface PrimaryWithStandbyOptions {
  /** @default the environment variable PG_VERSION, else 18 */
  version?: PostgresMajor | undefined
  /** Of both servers. */
  settings?: ServerSettings | undefined
}

const value = (url: string, sql: string, values: unknown[] = []): Promise<unknown> =>
  withAdmin(url, async (client) => {
    const { rows } = await client.query({ text: sql, values, rowMode: 'array' })
    return rows[0]?.[0]
  })

/** Two servers of our own: a primary and an asynchronous hot standby of it. */
export const primaryWithStandby = async (options: PrimaryWithStandbyOptions = {}): Promise<PrimaryWithStandby> => {
  await using started = new AsyncDisposableStack()
  const major = wantedMajor(options.version === undefined ? undefined : String(options.version))
  const settings: ServerSettings = { wal_keep_size: '512MB', ...options.settings }
  const primary = started.use(asPrivate(await startEmbedded({ major, durable: false, settings })))
  const replication = started.use(await tcpProxy(primary.port))
  const follow = { url: replication.url(primary.url), directory: primary.directory }
  const standby = started.use(asPrivate(await startEmbedded({ major, durable: false, settings, standbyOf: follow })))
  const owned = started.move()
  return {
    primary,
    standby,
    replication,
    async caughtUp() {
      // A commit that is flushed, and with it whatever was written before: nothing else would send that on for seconds.
      await value(primary.url, `SELECT pg_logical_emit_message(true, 'testkit', 'caught up?')`)
      const written = await value(primary.url, 'SELECT pg_current_wal_lsn()::text')
      await eventually(() => value(standby.url, 'SELECT pg_last_wal_replay_lsn() >= $1::pg_lsn', [written]), {
        deadlineMs: 60_000,
        what: 'the standby to catch up',
      })
    },
    async promote() {
      const promoted = await value(standby.url, 'SELECT pg_promote(true, 30)')
      if (promoted !== true) throw new Error('the standby was not promoted within 30 s')
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  }
}
