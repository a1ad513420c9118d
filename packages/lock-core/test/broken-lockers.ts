import { setTimeout as sleep } from 'node:timers/promises'
import type { ConformanceHooks } from '../src/conformance/index.ts'
import type { AcquireOptions, Lock, Locker } from '../src/index.ts'
import { createMemoryLocker, createNoopLocker, type MemoryLocker } from '../src/memory/index.ts'

/** A way to get a locker wrong, and the case of the suite that must find it. */
export interface Mutant {
  readonly fault: string
  /** The name of the case. */
  readonly foundBy: string
  /** What its failure must say, where the case checks several things. */
  readonly says?: RegExp
  /** It shows at moments of a schedule alone, which a pause of the machine may cover: one of several runs has to find it. */
  readonly showsAtMoments?: boolean
  readonly break?: (sound: MemoryLocker) => Partial<Locker>
  readonly breakHooks?: (sound: Required<ConformanceHooks>) => Partial<ConformanceHooks>
}

/** A lock with some of it replaced. */
function alter(lock: Lock, replaced: { [P in keyof Lock]?: Lock[P] }): Lock {
  return new Proxy(lock, {
    get(target, property) {
      if (Object.hasOwn(replaced, property)) return Reflect.get(replaced, property)
      const value: unknown = Reflect.get(target, property, target)
      return typeof value === 'function' ? value.bind(target) : value
    },
  })
}

/** Every lock that the locker gives out, altered. */
function altering(
  sound: MemoryLocker,
  change: (lock: Lock, options: AcquireOptions) => { [P in keyof Lock]?: Lock[P] },
): Partial<Locker> {
  return {
    async tryAcquire(key, options = {}) {
      const lock = await sound.tryAcquire(key, options)
      return lock === null ? null : alter(lock, change(lock, options))
    },
    async acquire(key, options = {}) {
      const lock = await sound.acquire(key, options)
      return alter(lock, change(lock, options))
    },
  }
}

/** Both ways to acquire, with other options than the caller's. */
function rewriting(sound: MemoryLocker, rewrite: (options: AcquireOptions) => AcquireOptions): Partial<Locker> {
  return {
    tryAcquire: (key, options = {}) => sound.tryAcquire(key, rewrite(options)),
    acquire: (key, options = {}) => sound.acquire(key, rewrite(options)),
  }
}

/** Waits by trying again and again, as `which` allows, instead of standing in line. */
function polling(sound: MemoryLocker, which: (options: AcquireOptions) => boolean): Partial<Locker> {
  let waiters = 0
  return {
    async acquire(key, options = {}) {
      if (!which(options)) return sound.acquire(key, options)
      waiters += 1
      try {
        for (;;) {
          const lock = await sound.tryAcquire(key, options)
          if (lock !== null) return lock
          await sleep(2, undefined, options.signal === undefined ? {} : { signal: options.signal })
        }
      } finally {
        waiters -= 1
      }
    },
    status: async (key) => ({ ...(await sound.status(key)), waiters }),
  }
}

const refusal = 'a held key is refused to another session and to the same one, until it is released'
const together = 'shared holders of one session and of others hold together and keep exclusive ones out'
const lateRelease = 'release and refresh of a lost lock reject, dispose is silent, and the next holder keeps the key'

export const mutants: readonly Mutant[] = [
  {
    fault: 'grants a key to two sessions',
    foundBy: refusal,
    says: /another session got a key/,
    break: (sound) => ({
      tryAcquire: async (key, options) =>
        (await sound.tryAcquire(key, options)) ?? createNoopLocker().tryAcquire(key, options),
    }),
  },
  {
    fault: 'lets a session have its own key again',
    foundBy: refusal,
    says: /holding session got the key a second time/,
    break(sound) {
      const own = new Map<string, Lock>()
      return {
        async tryAcquire(key, options) {
          const lock = await sound.tryAcquire(key, options)
          if (lock !== null) own.set(key, lock)
          return lock ?? (own.get(key)?.isHeld() ? createNoopLocker().tryAcquire(key, options) : null)
        },
      }
    },
  },
  {
    fault: 'believes in a lock until the store has answered its release',
    foundBy: refusal,
    says: /while release\(\) is on its way/,
    break: (sound) =>
      altering(sound, (lock) => ({
        release: async () => {
          await Promise.resolve()
          await lock.release()
        },
      })),
  },
  {
    fault: 'lets two in, one time in thirty',
    foundBy: 'holds of random schedules never overlap, and tokens follow the order of grants',
    showsAtMoments: true,
    break(sound) {
      let contended = 0
      return {
        async acquire(key, options = {}) {
          const lock = await sound.tryAcquire(key, options)
          if (lock !== null) return lock
          contended += 1
          return contended % 30 === 0 ? createNoopLocker().acquire(key, options) : sound.acquire(key, options)
        },
      }
    },
  },
  {
    fault: 'lets the next one in a little before the ttl is over',
    foundBy: 'holds whose ttl runs out end before the next one begins',
    says: /began while/,
    showsAtMoments: true,
    break: (sound) =>
      altering(sound, (_, { ttlMs = Number.POSITIVE_INFINITY }) => {
        const endsAt = performance.now() + ttlMs + 30
        return { isHeld: () => performance.now() < endsAt }
      }),
  },
  {
    fault: 'takes keys for equal that differ in case',
    foundBy: 'keys that only look alike are different locks',
    break: (sound) => ({ tryAcquire: (key, options) => sound.tryAcquire(key.toLowerCase(), options) }),
  },
  {
    fault: 'gives every grant the same token',
    foundBy: 'each grant has a higher token than the one before, whichever session gets it',
    break: (sound) => altering(sound, () => ({ fencingToken: 1n })),
  },
  {
    fault: 'counts tokens anew in each session',
    foundBy: 'a token never comes again when every session was closed',
    break(sound) {
      let token = 0n
      return altering(sound, () => {
        token += 1n
        return { fencingToken: token }
      })
    },
  },
  {
    fault: 'treats shared as exclusive',
    foundBy: together,
    says: /tryAcquire of a free key gave null/,
    break: (sound) => rewriting(sound, (options) => ({ ...options, mode: 'exclusive' })),
  },
  {
    fault: 'lets shared holders in beside exclusive ones, and the other way round',
    foundBy: together,
    says: /an exclusive lock beside shared ones/,
    break: (sound) => ({
      tryAcquire: (key, options) =>
        options?.mode === 'shared' ? createNoopLocker().tryAcquire(key, options) : sound.tryAcquire(key, options),
    }),
  },
  {
    fault: 'serves the last who came first',
    foundBy: 'waiters of one process are served in the order in which they came',
    break(sound) {
      const stack: (() => void)[] = []
      const acquire: Locker['acquire'] = async (key, options) => {
        for (;;) {
          const lock = await sound.tryAcquire(key, options)
          if (lock !== null) return alter(lock, { release: () => lock.release().then(() => stack.pop()?.()) })
          await new Promise<void>((resolve) => stack.push(resolve))
        }
      }
      return {
        acquire,
        tryAcquire: (key) => acquire(key),
        status: async (key) => ({ ...(await sound.status(key)), waiters: stack.length }),
      }
    },
  },
  {
    fault: 'lets newcomers overtake those who wait',
    foundBy: 'a newcomer of the same process does not overtake a waiter when the key is released',
    break: (sound) => polling(sound, () => true),
  },
  {
    fault: 'keeps readers and writers in different lines',
    foundBy: 'an exclusive waiter is not starved by shared newcomers of its process',
    break: (sound) => polling(sound, ({ mode }) => mode !== 'shared'),
  },
  {
    fault: 'ignores waitTimeoutMs',
    foundBy: 'waitTimeoutMs ends the wait, not before its time; 0 is one attempt',
    break: (sound) => rewriting(sound, ({ waitTimeoutMs: _, ...options }) => options),
  },
  {
    fault: 'ignores the signal',
    foundBy: 'an abort ends the wait at once, and the key is free when the holder releases it',
    says: /not within .* an aborted wait/,
    break: (sound) => rewriting(sound, ({ signal: _, ...options }) => options),
  },
  {
    fault: 'lets a waiter that gave up have the lock all the same',
    foundBy: 'an abort ends the wait at once, and the key is free when the holder releases it',
    says: /free after its waiter gave up/,
    break: (sound) => ({
      acquire(key, { signal, ...options } = {}) {
        const granted = sound.acquire(key, options)
        if (signal === undefined) return granted
        return new Promise((resolve, reject) => {
          signal.addEventListener('abort', () => reject(signal.reason), { once: true })
          granted.then(resolve, reject)
        })
      },
    }),
  },
  {
    fault: 'strands the key when an abort meets the hand-off',
    foundBy: 'an abort that races with the hand-off gives the lock or the reason, and never strands the key',
    showsAtMoments: true,
    break: (sound) => ({
      async acquire(key, options = {}) {
        const { signal, ...rest } = options
        const lock = await sound.acquire(key, options)
        // As an adapter whose grant takes a round trip to arrive.
        if (signal === undefined) return lock
        await sleep(3)
        if (signal.aborted) throw signal.reason
        return lock ?? rest
      },
    }),
  },
  {
    fault: 'puts an error of its own in place of the reason',
    foundBy: 'an aborted signal rejects with its reason, untouched, before anything is asked',
    break: (sound) => ({
      acquire: (key, options) =>
        sound.acquire(key, options).catch((error: unknown) => Promise.reject(new Error('aborted', { cause: error }))),
    }),
  },
  {
    fault: 'leaves the waiters of a closed locker in the line',
    foundBy: 'waiters of a closed locker stand in nobody’s way',
    break(sound) {
      return {
        acquire: (key, options) => sound.acquire(key, options),
        close: async () => {},
        [Symbol.asyncDispose]: async () => {},
      }
    },
  },
  {
    fault: 'never aborts the signal',
    foundBy: 'a ttl that runs out ends the lock: signal, isHeld, remainingMs, assertHeld',
    break: (sound) => altering(sound, () => ({ signal: new AbortController().signal })),
  },
  {
    fault: 'learns of the deadline by a timer only',
    foundBy: 'after a blocked event loop the very next line knows of the loss',
    break: (sound) =>
      altering(sound, (_, { ttlMs }) => {
        const controller = new AbortController()
        let held = true
        setTimeout(() => {
          held = false
          controller.abort(new Error('late'))
        }, ttlMs ?? 2_147_483_647).unref()
        return { signal: controller.signal, isHeld: () => held }
      }),
  },
  {
    fault: 'cuts off the fraction of a millisecond at which its leases end',
    foundBy: 'whoever tries without a pause at the end of a lease never meets a holder who believes in it',
    says: /two holders/,
    showsAtMoments: true,
    break: (sound) =>
      altering(sound, (_, { ttlMs = Number.POSITIVE_INFINITY }) => {
        const endsAt = performance.now() + ttlMs + 0.9
        return { isHeld: () => performance.now() < endsAt }
      }),
  },
  {
    fault: 'believes longer than the store',
    foundBy: 'a holder knows of its loss before the next one is granted the key',
    says: /two holders/,
    break: (sound) => altering(sound, () => ({ isHeld: () => true })),
  },
  {
    fault: 'releases by key, whoever holds it',
    foundBy: lateRelease,
    says: /should have been rejected: release|freed the lock of the next holder/,
    break: (sound) =>
      altering(sound, (lock) => ({
        release: async () => {
          await sound.forceRelease(lock.key)
        },
      })),
  },
  {
    fault: 'releases what its session has, whichever grant it is asked to release',
    foundBy: lateRelease,
    says: /freed the lock of the next holder/,
    break(sound) {
      const own = new Map<string, Lock>()
      return altering(sound, (lock) => {
        own.set(lock.key, lock)
        return {
          release: async () => {
            if (!lock.isHeld()) await own.get(lock.key)?.[Symbol.asyncDispose]()
            await lock.release()
          },
        }
      })
    },
  },
  {
    fault: 'throws on dispose of a lost lock',
    foundBy: lateRelease,
    says: /LOCK_NOT_HELD|cannot release/,
    break: (sound) => altering(sound, (lock) => ({ [Symbol.asyncDispose]: () => lock.release() })),
  },
  {
    fault: 'refreshes what it believes, not what the store has',
    foundBy: 'refresh starts the ttl anew, in the store too',
    says: /given to somebody else/,
    break: (sound) =>
      altering(sound, (_, { ttlMs = Number.POSITIVE_INFINITY }) => {
        let endsAt = performance.now() + ttlMs
        return {
          refresh: async () => {
            endsAt = performance.now() + ttlMs
          },
          isHeld: () => performance.now() < endsAt,
          remainingMs: () => Math.max(0, endsAt - performance.now()),
        }
      }),
  },
  {
    fault: 'does not shorten a ttl',
    foundBy: 'refresh may lengthen and shorten the ttl',
    break: (sound) =>
      altering(sound, (lock) => ({ refresh: (ttlMs) => lock.refresh(Math.max(ttlMs ?? lock.ttlMs, lock.ttlMs)) })),
  },
  {
    fault: 'ignores maxHoldMs',
    foundBy: 'maxHoldMs ends the hold, and frees the key, although the lock is refreshed',
    break: (sound) => rewriting(sound, ({ maxHoldMs: _, ...options }) => options),
  },
  {
    fault: 'ignores minHoldMs',
    foundBy: 'minHoldMs keeps the key taken after an early release, and not for longer',
    break: (sound) => rewriting(sound, ({ minHoldMs: _, ...options }) => options),
  },
  {
    fault: 'forgets its locks when it is closed',
    foundBy: 'close() ends every lock and every wait, and frees the keys',
    break: () => ({ close: async () => {} }),
  },
  {
    fault: 'goes on answering when it is closed',
    foundBy: 'close() ends every lock and every wait, and frees the keys',
    says: /should have been rejected: status/,
    break: () => ({ status: (key) => createMemoryLocker().status(key) }),
  },
  {
    fault: 'ends a granted lock with the signal of its wait',
    foundBy: 'release does not abort the signal, and an abort of the wait does not end a granted lock',
    break: (sound) => ({
      async acquire(key, options) {
        const lock = await sound.acquire(key, options)
        options?.signal?.addEventListener('abort', () => void sound.forceRelease(key))
        return lock
      },
    }),
  },
  {
    fault: 'accepts a second release',
    foundBy: 'a second release rejects and does not free the lock of the next holder',
    break: (sound) => altering(sound, (lock) => ({ release: () => Promise.resolve(lock[Symbol.asyncDispose]()) })),
  },
  {
    fault: 'keeps what it got when it cannot have all',
    foundBy: 'one attempt takes all in the order given, or nothing (tryAcquireMany, where the adapter has it)',
    break: (sound) => ({
      async tryAcquireMany(keys, options) {
        const locks = await Promise.all(keys.map((key) => sound.tryAcquire(key, options)))
        return locks.some((lock) => lock === null) ? null : locks.filter((lock) => lock !== null)
      },
    }),
  },
  {
    fault: 'tries several keys in a mode of its own',
    foundBy: 'one attempt takes all in the order given, or nothing (tryAcquireMany, where the adapter has it)',
    says: /several shared locks/,
    break: (sound) => ({
      tryAcquireMany: (keys, { mode: _, ...options } = {}) => sound.tryAcquireMany(keys, options),
    }),
  },
  {
    fault: 'is in its own way where a key is named twice',
    foundBy: 'a key that is named twice is one lock, which is released once',
    says: /kept itself out/,
    break: (sound) => ({
      tryAcquireMany: async (keys, options) =>
        new Set(keys).size < keys.length ? null : sound.tryAcquireMany(keys, options),
    }),
  },
  {
    fault: 'gives two locks for a key that is named twice',
    foundBy: 'a key that is named twice is one lock, which is released once',
    says: /two locks/,
    break: (sound) => ({
      async tryAcquireMany(keys, options) {
        const locks = await sound.tryAcquireMany(keys, options)
        return locks?.map((lock, index) => (keys.indexOf(lock.key) === index ? lock : alter(lock, {}))) ?? null
      },
    }),
  },
  {
    fault: 'accepts any key',
    foundBy: 'bad keys are refused by every call before anything happens',
    break: (sound) => ({
      tryAcquire: (key, options) =>
        sound.tryAcquire(`key:${String(key).slice(0, 100).toWellFormed().replaceAll('\0', '')}`, options),
    }),
  },
  {
    fault: 'takes a string for several keys of one letter',
    foundBy: 'bad keys are refused by every call before anything happens',
    says: /tryAcquireMany/,
    break: (sound) => ({ tryAcquireMany: (keys, options) => sound.tryAcquireMany([...keys], options) }),
  },
  {
    fault: 'looks at options only where it waits',
    foundBy: 'bad options are refused before anything happens',
    says: /should have been rejected: tryAcquire/,
    break: (sound) => ({
      tryAcquire: (key, options) => sound.tryAcquire(key, options).catch(() => sound.tryAcquire(key)),
    }),
  },
  {
    fault: 'promises more than the suite was told of',
    foundBy: 'lockers have the capabilities that the suite was told of',
    break: (sound) => ({ capabilities: { ...sound.capabilities, fencing: 'durable' } }),
  },
  {
    fault: 'does not hear of the end of its session',
    foundBy: 'a session that ends takes its locks with it, loudly, and the locker goes on with a new one',
    says: /the signal to abort/,
    breakHooks: () => ({ endSession: async () => {} }),
  },
  {
    fault: 'does not come back after its session has ended',
    foundBy: 'a session that ends takes its locks with it, loudly, and the locker goes on with a new one',
    says: /closed/,
    breakHooks: () => ({ endSession: (locker) => locker.close() }),
  },
  {
    fault: 'drops its waiters when its session ends',
    foundBy: 'a waiter outlives the end of its session',
    breakHooks: () => ({ endSession: (locker) => locker.close() }),
  },
  {
    fault: 'believes what it cannot know when it is cut off',
    foundBy: 'a holder that cannot reach its store gives up in time',
    says: /two holders/,
    break: (sound) => altering(sound, () => ({ isHeld: () => true })),
  },
  {
    fault: 'does not tell the holder that its lock was taken away',
    foundBy: 'a lock that is taken away by force is lost, and the next holder is alone',
    break: (sound) => altering(sound, () => ({ signal: new AbortController().signal })),
  },
  {
    fault: 'keeps quiet about a restart that freed its locks',
    foundBy: 'a restart of the store ends locks loudly or keeps them, never both',
    break: (sound) => altering(sound, () => ({ isHeld: () => true })),
  },
  {
    fault: 'leaves locks behind in the store',
    foundBy: 'of two releases at once one rejects',
    says: /left behind/,
    breakHooks: () => ({ leaks: async () => ['one lock'] }),
  },
  {
    fault: 'does not renew what it says it renews',
    foundBy: 'a renewed lock outlives its ttl, for others too',
    says: /was lost/,
  },
]
