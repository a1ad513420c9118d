export { type BatchLine, type BatchLineOptions, createBatchLine } from './batch-line.ts'
export { type Clock, monotonicNow, systemClock, type Timer } from './clock.ts'
export { type Coalescer, type CoalescerOptions, createCoalescer } from './coalescer.ts'
export { Deadline } from './deadline.ts'
export { describeValue } from './describe-value.ts'
export { createExactController, type ExactController } from './exact-signal.ts'
export type { GrantedLock } from './granted-lock.ts'
export { ksuid } from './ksuid.ts'
export { type LockFamily, LockHandle, type LockHooks } from './lock-handle.ts'
export { observabilityOptions } from './observability-options.ts'
export {
  checkAcquireOptions,
  checkKey,
  checkKeys,
  checkOptionNames,
  checkPatience,
  checkTtl,
  parseOptions,
  type ResolvedAcquireOptions,
} from './options.ts'
export {
  type AcquireTrace,
  acquireChannel,
  type LostTrace,
  lostChannel,
  type RefreshTrace,
  type ReleaseTrace,
  refreshChannel,
  releaseChannel,
  traced,
  tracedAcquire,
  tracedAcquireMany,
} from './tracing.ts'
export { WaitLimit } from './wait-limit.ts'
export { type Turn, WaitQueue } from './wait-queue.ts'
