export { exclusionViolations, fencingViolations, type Hold } from './history.ts'
export {
  type ConformanceHooks,
  type ConformanceOptions,
  lockerConformance,
  type TestRunner,
} from './locker-conformance.ts'
