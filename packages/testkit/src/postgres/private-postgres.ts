import { type EmbeddedServer, startEmbedded } from './embedded.ts'
import type { StopMode } from './postmaster.ts'
import type { StartPostgresOptions } from './start-postgres.ts'
import { wantedMajor } from './version.ts'

/** A server that belongs to one test alone, which may crash it. */
export interface PrivatePostgres extends AsyncDisposable {
  readonly url: string
  readonly port: number
  /** Data directory, log and all. */
  readonly directory: string
  /** Stops and starts it at the same address: `fast` as an administrator does, `immediate` as a crash does. */
  restart(mode: StopMode): Promise<void>
  /** Stops it until `resume()`. */
  halt(mode: StopMode): Promise<void>
  resume(): Promise<void>
  /** Idempotent. */
  stop(): Promise<void>
}

export const asPrivate = (server: EmbeddedServer): PrivatePostgres => {
  const { url, port, directory, restart, halt, resume } = server
  const stop = (): Promise<void> => server.close()
  return { url, port, directory, restart, halt, resume, stop, [Symbol.asyncDispose]: stop }
}

/** Starts an embedded server whatever `DATABASE_URL` says: nobody's server is restarted but our own. */
export const startPrivatePostgres = async (
  options: Pick<StartPostgresOptions, 'version' | 'settings' | 'durable'> = {},
): Promise<PrivatePostgres> => {
  const major = wantedMajor(options.version === undefined ? undefined : String(options.version))
  return asPrivate(await startEmbedded({ major, settings: options.settings ?? {}, durable: options.durable ?? false }))
}
