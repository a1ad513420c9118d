/** Postgres for tests, and the means to break it. */

export { dropDatabase, withAdmin, withDatabase } from './database/admin.ts'
export type { DatabaseTemplate } from './database/template.ts'
export {
  type CreateDatabaseOptions,
  createDatabase,
  openDatabase,
  type TestDatabase,
} from './database/test-database.ts'
export { type BackendChoice, backendsNamed, cancelBackend, terminateBackend } from './faults/backends.ts'
export { type EventuallyOptions, eventually, Hopeless } from './faults/eventually.ts'
export { type RandomSource, randomSource } from './faults/random-source.ts'
export { type Direction, type SwallowOptions, type TcpProxy, tcpProxy } from './faults/tcp-proxy.ts'
export { type FeedEntry, feedViolations } from './history/feed-history.ts'
export {
  type GuardedWrite,
  LockHistory,
  type LockObservation,
  type ObservedHold,
  type Overlap,
  overlaps,
  staleWrites,
} from './history/lock-history.ts'
export {
  type Declaration,
  type Disturbance,
  eventOrderViolations,
  foldEvents,
  type SeenEvent,
  type SeenNode,
  unjustifiedDowns,
} from './history/membership-history.ts'
export { monotonicMicros } from './history/monotonic.ts'
export type { StopMode } from './postgres/postmaster.ts'
export { type PrivatePostgres, startPrivatePostgres } from './postgres/private-postgres.ts'
export type { ServerSettings } from './postgres/settings.ts'
export {
  type PostgresProvider,
  type PostgresServer,
  type StartPostgresOptions,
  startPostgres,
} from './postgres/start-postgres.ts'
export { majors, type PostgresMajor, wantedMajor } from './postgres/version.ts'
export { commands, tell } from './process/line-messages.ts'
export {
  type Exit,
  runningProcesses,
  type SpawnNodeOptions,
  spawnNode,
  type TestProcess,
} from './process/spawn-node.ts'
export {
  type OtherDatabase,
  type OtherDatabaseServer,
  otherDatabaseMissing,
  startOtherDatabase,
} from './servers/other-databases.ts'
export { type Pgbouncer, type PgbouncerOptions, pgbouncer } from './servers/pgbouncer.ts'
export { type PrimaryWithStandby, primaryWithStandby } from './servers/primary-with-standby.ts'
export { type RedisServer, startRedis } from './servers/redis.ts'
export { findProgram, howToInstall, type SystemProgram } from './servers/system-program.ts'
