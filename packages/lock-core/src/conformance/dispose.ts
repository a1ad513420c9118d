import assert from 'node:assert/strict'
import { assertCode, assertOver, type Topic } from './bench.ts'

/** Releasing is done once; disposing may be done as often as one likes. Promise 4 for a second release. */
export const dispose: Topic = {
  name: 'release and dispose',
  cases: [
    {
      name: 'a second release rejects and does not free the lock of the next holder',
      async run(bench) {
        const [one, other] = await bench.lockers(2)
        for (const successor of [one, other]) {
          const key = bench.key()
          const lock = await bench.take(one, key)
          await lock.release()
          const next = await bench.take(successor, key)
          assertCode(await bench.failure('the second release', lock.release()), 'LOCK_NOT_HELD', 'the second release')
          assertCode(await bench.failure('a refresh', lock.refresh()), 'LOCK_NOT_HELD', 'refresh after release')
          await lock[Symbol.asyncDispose]()
          assert.equal(next.isHeld(), true)
          assert.equal(await other.tryAcquire(key), null, 'the second release freed the lock of the next holder')
          await next.release()
        }
      },
    },
    {
      name: 'of two releases at once one rejects',
      async run(bench) {
        const lock = await bench.take(await bench.locker(), bench.key())
        const outcomes = await Promise.allSettled([lock.release(), lock.release()])
        assert.deepEqual(outcomes.map((outcome) => outcome.status).toSorted(), ['fulfilled', 'rejected'])
      },
    },
    {
      name: 'dispose releases, and is silent however often it is called',
      async run(bench) {
        const [one, other] = await bench.lockers(2)
        const key = bench.key()
        let escaped: { isHeld(): boolean; [Symbol.asyncDispose](): PromiseLike<void> } | undefined
        {
          await using lock = await bench.take(one, key)
          assert.equal(lock.isHeld(), true)
          escaped = lock
        }
        assert.equal(escaped.isHeld(), false)
        const next = await bench.take(other, key)
        await Promise.all([escaped[Symbol.asyncDispose](), escaped[Symbol.asyncDispose]()])
        assert.equal(await one.tryAcquire(key), null, 'a second dispose freed the lock of the next holder')
        await next.release()
        await next[Symbol.asyncDispose]()
        assertOver(next, 'a released lock')
      },
    },
    {
      name: 'dispose of a locker closes it',
      async run(bench) {
        const [one, other] = await bench.lockers(2)
        const key = bench.key()
        const lock = await bench.take(one, key)
        await bench.soon('dispose of the locker', Promise.resolve(one[Symbol.asyncDispose]()))
        assert.equal(lock.isHeld(), false)
        await bench.becomesFree(other, key, 'the key of a disposed locker is free')
      },
    },
    {
      name: 'minHoldMs keeps the key taken after an early release, and not for longer',
      skip: ({ capabilities }) => (capabilities.lease ? null : 'the adapter has no leases'),
      async run(bench) {
        const [one, other] = await bench.lockers(2)
        const key = bench.key()
        const lock = await bench.take(one, key, { minHoldMs: bench.ttlMs })
        const { signal } = lock
        await lock.release()
        assertOver(lock, 'a released lock')
        assert.equal(signal.aborted, false, 'release() aborted the signal')
        // On a machine that has just stood still the time may be over already.
        const next = (await other.tryAcquire(key)) ?? (await bench.soon('the end of minHoldMs', other.acquire(key)))
        const elapsedMs = Date.now() - lock.acquiredAt.getTime()
        assert(elapsedMs >= bench.ttlMs - 50, `the key was free ${elapsedMs} ms after the grant`)
        await next.release()
      },
    },
    {
      name: 'minHoldMs is refused where there are no leases',
      skip: ({ capabilities }) => (capabilities.lease ? 'the adapter has leases' : null),
      async run(bench) {
        const locker = await bench.locker()
        const error = await bench.failure('minHoldMs', locker.tryAcquire(bench.key(), { minHoldMs: 100 }))
        assertCode(error, 'INVALID_OPTIONS', 'minHoldMs without leases')
      },
    },
  ],
}
