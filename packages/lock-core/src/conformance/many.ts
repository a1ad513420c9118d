import assert from 'node:assert/strict'
import { acquireMany } from '../acquire-many.ts'
import { hasErrorCode } from '../errors.ts'
import type { Lock, Locker, TryAcquireOptions } from '../locker.ts'
import { assertCode, assertLost, assertOver, type Topic } from './bench.ts'

/** Several locks as one: all or nothing, and no deadlock. */
export const many: Topic = {
  name: 'several locks at once',
  cases: [
    {
      name: 'all keys are held, in the order given, and released together',
      async run(bench) {
        const [one, other] = await bench.lockers(2)
        const keys = [bench.key(), bench.key(), bench.key()].toReversed()
        const set = await bench.soon('three free keys', acquireMany(one, [...keys, ...keys]))
        assert.deepEqual(
          set.locks.map((lock) => lock.key),
          keys,
        )
        assert.equal(set.isHeld(), true)
        for (const key of keys) {
          assert.equal(set.get(key)?.key, key)
          assert.equal(await other.tryAcquire(key), null, 'a key of the set is free')
        }
        await set.release()
        assertCode(await bench.failure('the second release', set.release()), 'LOCK_NOT_HELD', 'the second release')
        for (const key of keys) await (await bench.take(other, key)).release()
      },
    },
    {
      name: 'when one key stays taken none is held',
      async run(bench) {
        const [one, other] = await bench.lockers(2)
        // The last in the order in which they are waited for: the others are held by then, and have to be given back.
        const keys = [bench.key(), bench.key(), bench.key()].toSorted(byIdentity(one))
        const [first = '', second = '', last = ''] = keys
        const taken = await bench.take(other, last)
        for (const waitTimeoutMs of [0, 60]) {
          const failed = acquireMany(one, keys, { waitTimeoutMs })
          assertCode(await bench.failure('a set with a taken key', failed), 'LOCK_TIMEOUT', 'a set with a taken key')
        }
        const controller = new AbortController()
        const reason = new Error('enough')
        const aborted = bench.failure('an aborted set', acquireMany(one, keys, { signal: controller.signal }))
        await bench.waiting(other, last, 1)
        controller.abort(reason)
        assert.equal(await aborted, reason)
        for (const key of [first, second]) await (await bench.take(other, key)).release()
        await taken.release()
      },
    },
    {
      name: 'one attempt takes all in the order given, or nothing (tryAcquireMany, where the adapter has it)',
      async run(bench) {
        const [one, other] = await bench.lockers(2)
        const keys = [bench.key(), bench.key(), bench.key(), bench.key()] as const
        const taken = await bench.take(other, keys[2])
        assert.equal(await tryMany(one, keys), null, 'all or nothing was neither')
        for (const key of [keys[0], keys[1], keys[3]]) await (await bench.take(other, key)).release()
        await taken.release()
        const locks = await tryMany(one, keys)
        assert.deepEqual(
          locks?.map((lock) => lock.key),
          [...keys],
        )
        for (const lock of locks ?? []) {
          assert.equal(lock.isHeld(), true)
          await lock.release()
        }
        if (!bench.capabilities.modes.includes('shared')) return
        const readers = [await tryMany(one, keys, { mode: 'shared' }), await tryMany(other, keys, { mode: 'shared' })]
        for (const shared of readers) {
          assert.deepEqual(
            shared?.map((lock) => lock.mode),
            keys.map(() => 'shared'),
            'an attempt at several shared locks beside others',
          )
          await Promise.all(shared?.map((lock) => lock.release()) ?? [])
        }
      },
    },
    {
      name: 'a key that is named twice is one lock, which is released once',
      async run(bench) {
        const [one, other] = await bench.lockers(2)
        for (const mode of bench.capabilities.modes) {
          const [key, between] = [bench.key(), bench.key()]
          // Where the adapter has no attempt of its own, the set that lock-core makes of single locks.
          const attempt =
            one.tryAcquireMany?.([key, between, key], { mode }) ??
            acquireMany(one, [key, between, key], { mode }).then((set) => [key, between, key].map((of) => set.get(of)))
          const locks = await bench.soon('a key that is named twice', attempt)
          assert(locks !== null, 'a key that is named twice kept itself out')
          assert.deepEqual(
            locks.map((lock) => lock?.key),
            [key, between, key],
          )
          assert.equal(locks[0], locks[2], 'one key gave two locks')
          await locks[0]?.release()
          await (await bench.take(other, key)).release()
          await locks[1]?.release()
        }
      },
    },
    {
      name: 'callers that name the keys in different orders do not deadlock, and exclude each other',
      async run(bench) {
        const lockers = await bench.lockers(2)
        const keys = [bench.key(), bench.key(), bench.key()]
        let inside = 0
        const callers = Array.from({ length: 6 }, async (_, caller) => {
          const random = bench.random.fork()
          for (let round = 0; round < 4; round += 1) {
            const order = keys.toSorted(() => random.next() - 0.5)
            const set = await acquireMany(lockers[caller % 2] ?? lockers[0], order)
            inside += 1
            assert.equal(inside, 1, 'two callers hold the same keys')
            await Promise.resolve()
            inside -= 1
            await set.release()
          }
        })
        await bench.soon('all callers', Promise.all(callers), 4 * bench.patienceMs)
      },
    },
    {
      name: 'a set is lost when one of its locks is',
      async run(bench) {
        const locker = await bench.locker()
        const keys = [bench.key(), bench.key()] as const
        const options = bench.shortLease
        const set = await bench.soon('two free keys', acquireMany(locker, keys, options))
        await set.get(keys[0])?.refresh(bench.ttlMs * 20)
        await bench.until('the signal of the set aborts', () => set.signal.aborted)
        assert.equal(set.isHeld(), false)
        assertCode(set.signal.reason, 'LOCK_LOST', 'reason of the signal')
        assert.throws(() => set.assertHeld())
        const [kept, lost] = [set.get(keys[0]), set.get(keys[1])]
        assert(kept !== undefined && lost !== undefined)
        assert.equal(kept.isHeld(), true)
        assertLost(lost, 'the lock that ran out')
        await bench.soon('dispose of the set', Promise.resolve(set[Symbol.asyncDispose]()))
        assertOver(kept, 'the other lock of a disposed set')
      },
    },
  ],
}

function byIdentity(locker: Locker): (one: string, other: string) => number {
  const identityOf = (key: string): string | bigint => locker.identityOf?.(key) ?? key
  return (one, other) => (identityOf(one) < identityOf(other) ? -1 : 1)
}

async function tryMany(
  locker: Locker,
  keys: readonly string[],
  options: TryAcquireOptions = {},
): Promise<readonly Lock[] | null> {
  if (locker.tryAcquireMany !== undefined) return locker.tryAcquireMany(keys, options)
  try {
    return (await acquireMany(locker, keys, { ...options, waitTimeoutMs: 0 })).locks
  } catch (error) {
    if (hasErrorCode(error, 'LOCK_TIMEOUT')) return null
    throw error
  }
}
