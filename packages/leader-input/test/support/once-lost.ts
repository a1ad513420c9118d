import type { Lock, Locker } from '@x/lock-core'
import { createMemoryLocker } from '@x/lock-core/memory'

export interface OnceLost {
  readonly locker: Locker
  /** The lock that is held says once, when it is asked next, that it is not held any more. */
  lose(): void
}

/** A locker in memory whose locks can say that they are lost, and then that they are not. */
export const onceLost = (): OnceLost => {
  const locker = createMemoryLocker()
  const acquire = locker.acquire.bind(locker)
  let isLost = false
  Object.defineProperty(locker, 'acquire', {
    value: async (...args: Parameters<Locker['acquire']>): Promise<Lock> =>
      new Proxy(await acquire(...args), {
        get(target, name) {
          if (name === 'isHeld' && isLost) {
            isLost = false
            return () => false
          }
          const value: unknown = Reflect.get(target, name, target)
          return typeof value === 'function' ? value.bind(target) : value
        },
      }),
  })
  return {
    locker,
    lose: () => {
      isLost = true
    },
  }
}
