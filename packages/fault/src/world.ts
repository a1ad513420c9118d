import {
  createDatabase,
  type DatabaseTemplate,
  type PrivatePostgres,
  type RandomSource,
  startPrivatePostgres,
  type TestDatabase,
} from '@x/testkit'
import type { Pool } from 'pg'

/** What one run of a scenario takes place in: a server of its own, and everything random. */
export interface World extends AsyncDisposable {
  readonly server: PrivatePostgres
  readonly database: TestDatabase
  /** The administrator's own connections: past every proxy. They come back after a restart. */
  readonly admin: Pool
  readonly random: RandomSource
  /** Says what happens, when asked to. */
  readonly tell: (line: string) => void
}

export interface WorldOptions {
  readonly random: RandomSource
  readonly template: DatabaseTemplate
  readonly tell: (line: string) => void
}

export const createWorld = async ({ random, template, tell }: WorldOptions): Promise<World> => {
  await using started = new AsyncDisposableStack()
  // Few slots, so that they can be filled; locks of crashed sessions are looked for, so that statements are logged.
  const server = started.use(await startPrivatePostgres({ settings: { max_connections: 80, log_min_messages: 'log' } }))
  const database = await createDatabase(server.url, { label: 'fault', template })
  started.defer(() => database.disconnect())
  const admin = database.pool({ max: 3 })
  const owned = started.move()
  return { server, database, admin, random, tell, [Symbol.asyncDispose]: () => owned.disposeAsync() }
}
