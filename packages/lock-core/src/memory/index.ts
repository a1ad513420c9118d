export { createMemoryLocker, type MemoryLocker, type MemoryLockerOptions } from './memory-locker.ts'
export { createNoopLocker } from './noop-locker.ts'
