import type { Locker } from '../src/index.ts'

/** The required part of a locker, with some of it replaced. */
export function delegate(locker: Locker, replaced: Partial<Locker> = {}): Locker {
  return {
    capabilities: locker.capabilities,
    tryAcquire: (key, options) => locker.tryAcquire(key, options),
    acquire: (key, options) => locker.acquire(key, options),
    status: (key) => locker.status(key),
    ping: () => locker.ping(),
    close: () => locker.close(),
    [Symbol.asyncDispose]: () => locker.close(),
    ...replaced,
  }
}
