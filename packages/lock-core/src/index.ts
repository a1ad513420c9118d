export { acquireMany, type LockSet } from './acquire-many.ts'
export type {
  DirectConnection,
  MigrationOptions,
  MigrationReport,
  PgConnectionConfig,
  PgPool,
  SqlExecutor,
} from './connection.ts'
export {
  ClosedError,
  ConfigurationError,
  ConnectionError,
  CoordinationError,
  type CoordinationErrorOptions,
  DeadlockError,
  type ErrorCode,
  FeedGapError,
  FencedError,
  HandlerError,
  hasErrorCode,
  LockLostError,
  LockNotHeldError,
  LockTimeoutError,
  NodeEvictedError,
  NotInTransactionError,
  PoolerDetectedError,
  PrivilegeError,
  QueryError,
  SchemaError,
  type SchemaErrorCode,
  StaleFenceError,
  UnsupportedError,
} from './errors.ts'
export { createLeaderElector } from './leader-elector.ts'
export type {
  DemotionReason,
  LeaderElector,
  LeaderElectorEvents,
  LeaderElectorOptions,
  LeaderTerm,
} from './leadership.ts'
export { lockId } from './lock-id.ts'
export type {
  AcquireOptions,
  Lock,
  Locker,
  LockerCapabilities,
  LockHolder,
  LockLostReason,
  LockMode,
  LockStatus,
  TryAcquireOptions,
} from './locker.ts'
export type { Logger, ObservabilityOptions, Policy, Unsubscribe } from './observability.ts'
export { createSemaphore, type Permit, type Semaphore, type SemaphoreOptions } from './semaphore.ts'
export { tryWithLock, withLock } from './with-lock.ts'
