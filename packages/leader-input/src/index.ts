export type { InstallReport } from './capture/install.ts'
export type {
  ChangeBase,
  ChangeEvent,
  ChangeRows,
  JsonCell,
  JsonRow,
  JsonValue,
  Operation,
} from './change-event.ts'
export type { InputHealth } from './health.ts'
export type { Lag } from './lag.ts'
export { createLeaderInput, type LeaderInput } from './leader-input.ts'
export type { SeekPosition } from './log/seek.ts'
export type { ChangeHandler, HandlerContext, LeaderInputOptions, OperationName, TableConfig } from './options.ts'
export type { BatchTrace, GapTrace, PoisonTrace, StepDownTrace, TermTrace } from './tracing.ts'
