import { LockHandle } from '../src/adapter/index.ts'
import type { ConformanceHooks } from '../src/conformance/index.ts'
import type { Lock, Locker, LockLostReason } from '../src/index.ts'
import { createMemoryLocker, type MemoryLocker } from '../src/memory/index.ts'
import { delegate } from './delegate.ts'

/** Memory lockers whose sessions can end, as those of a database do. */
export class Sessions {
  readonly #store = {}
  readonly #locks = new Map<Locker, LockHandle[]>()

  create(change: (sound: MemoryLocker) => Partial<Locker> = () => ({})): Locker {
    const memory = createMemoryLocker({ store: this.#store })
    const locks: LockHandle[] = []
    const keep = <L extends Lock | null>(lock: L): L => {
      if (lock instanceof LockHandle) locks.push(lock)
      return lock
    }
    const tryAcquire = memory.tryAcquire.bind(memory)
    const acquire = memory.acquire.bind(memory)
    const recording = Object.assign(memory, {
      tryAcquire: async (...args: Parameters<typeof tryAcquire>) => keep(await tryAcquire(...args)),
      acquire: async (...args: Parameters<typeof acquire>) => keep(await acquire(...args)),
    })
    const locker = delegate(recording, { tryAcquireMany: memory.tryAcquireMany.bind(memory), ...change(recording) })
    this.#locks.set(locker, locks)
    return locker
  }

  readonly hooks: Required<ConformanceHooks> = {
    endSession: async (locker) => this.#lose(this.#locks.get(locker) ?? [], 'session-ended'),
    // Nothing of a memory locker moves by itself but its deadlines, and those go on in a stopped process too.
    freezeSession: async () => async () => {},
    forceRelease: async (key) => {
      await createMemoryLocker({ store: this.#store }).forceRelease(key)
    },
    restartStore: async () => this.#lose([...this.#locks.values()].flat(), 'session-ended'),
    leaks: async () =>
      [...this.#locks.values()]
        .flat()
        .filter((lock) => lock.isHeld())
        .map((lock) => `${lock.key} is still held`),
  }

  #lose(locks: readonly LockHandle[], reason: LockLostReason): void {
    for (const lock of locks) lock.lose(reason)
  }
}
