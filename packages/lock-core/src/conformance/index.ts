export {
  type ConformanceHooks,
  type ConformanceOptions,
  lockerConformance,
  type TestRunner,
} from './locker-conformance.ts'
