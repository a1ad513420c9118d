export { createMemoryLocker, type MemoryLockerOptions } from './memory-locker.ts'
export { createNoopLocker } from './noop-locker.ts'
