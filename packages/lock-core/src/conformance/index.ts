export type { ConformanceHooks, ConformanceOptions, TestRunner } from './conformance-options.ts'
export { exclusionViolations, fencingViolations, type Hold } from './history.ts'
export { lockerConformance } from './locker-conformance.ts'
