/** Supervised connections to Postgres and what every package needs to know of it. Private: bundled, never in a published type. */

export { checkPool } from './check-pool.ts'
export { refuseNative } from './client.ts'
export { type ConnectionSource, connectionSource } from './connection-source.ts'
export { asExecutor, assertInTransaction, type Executor } from './executor.ts'
export { checkFence, fencingBaseSql } from './fence.ts'
export { channelName, quoteIdentifier, quoteLiteral } from './identifiers.ts'
export {
  createListener,
  type Listener,
  type ListenerOptions,
  type ListenerSession,
  type ListenerState,
  problemOf,
} from './listener.ts'
export { checkSchema, createMigrations, migrate, type PackageMigrations } from './migrate.ts'
export { renderMigration } from './migration.ts'
export { type OwnPool, openPool } from './own-pool.ts'
export { plainTypes } from './plain-types.ts'
export { isLostName, preparedName } from './prepared-name.ts'
export {
  createRunner,
  type Runner,
  type RunnerOptions,
  type StatementOptions,
} from './runner.ts'
export { openSession, type Session, type SessionOptions } from './session.ts'
export { fromConnectError, fromPgError, isConflict, sqlStateOf } from './sqlstate.ts'
export type { QueryRows, Row, Statement } from './statement.ts'
export { takeClient } from './take-client.ts'
export { toMigrate } from './to-migrate.ts'
