import assert from 'node:assert/strict'
import { monotonicNow } from '../adapter/clock.ts'
import { assertLost, lossReason, type Topic } from './bench.ts'

/** How long a hold lasts: as long as it is renewed, and no longer than it may. */
export const renewal: Topic = {
  name: 'renewal',
  cases: [
    {
      name: 'a renewed lock outlives its ttl, for others too',
      skip: ({ renewsGivenTtl }) => (renewsGivenTtl ? null : 'renewsGivenTtl is not set'),
      async run(bench) {
        const [one, other] = await bench.lockers(2)
        await bench.undisturbed(async () => {
          const key = bench.key()
          const lock = await bench.take(one, key, { ttlMs: bench.ttlMs })
          const unrenewed = await bench.take(one, bench.key(), bench.shortLease)
          const startedAt = monotonicNow()
          await bench.until('three ttls have passed', async () => {
            assert.equal(lock.isHeld(), true, 'a lock that should be renewed was lost')
            assert.equal(await other.tryAcquire(key), null, 'a lock that should be renewed was given to somebody else')
            return monotonicNow() - startedAt > 3 * bench.ttlMs
          })
          assertLost(unrenewed, "a lock with renew: 'manual' beside it")
          await lock.release()
        })
      },
    },
    {
      name: 'refresh starts the ttl anew, in the store too',
      async run(bench) {
        const [one, other] = await bench.lockers(2)
        await bench.undisturbed(async () => {
          const key = bench.key()
          const lock = await bench.take(one, key, bench.shortLease)
          const startedAt = monotonicNow()
          while (monotonicNow() - startedAt < 2.5 * bench.ttlMs) {
            await lock.refresh()
            assert(lock.remainingMs() <= bench.ttlMs)
            assert.equal(await other.tryAcquire(key), null, 'a refreshed lock was given to somebody else')
            assert.equal(lock.isHeld(), true, 'a refreshed lock was lost')
            await bench.until('a third of the ttl', () => lock.remainingMs() < (bench.ttlMs * 2) / 3)
          }
          await lock.release()
        })
      },
    },
    {
      name: 'refresh may lengthen and shorten the ttl',
      async run(bench) {
        const [one, other] = await bench.lockers(2)
        const key = bench.key()
        const lock = await bench.take(one, key, { ttlMs: bench.ttlMs * 4, renew: 'manual' })
        await lock.refresh(bench.ttlMs * 8)
        assert.equal(lock.ttlMs, bench.ttlMs * 8)
        assert(lock.remainingMs() > bench.ttlMs * 4, `remainingMs() is ${lock.remainingMs()} after a longer refresh`)
        await lock.refresh(bench.ttlMs)
        assert.equal(lock.ttlMs, bench.ttlMs)
        assert(lock.remainingMs() <= bench.ttlMs, `remainingMs() is ${lock.remainingMs()} after a shorter refresh`)
        const next = await bench.soon('the shortened ttl to end', other.acquire(key))
        assertLost(lock, 'a lock whose shortened ttl ran out')
        await next.release()
      },
    },
    {
      name: 'maxHoldMs ends the hold, and frees the key, although the lock is refreshed',
      async run(bench) {
        const [one, other] = await bench.lockers(2)
        const key = bench.key()
        const lock = await bench.take(one, key, { maxHoldMs: bench.ttlMs })
        assert(lock.remainingMs() <= bench.ttlMs)
        await lock.refresh()
        assert(lock.remainingMs() <= bench.ttlMs, 'refresh() moved the end that maxHoldMs set')
        const next = await bench.soon('the key of a lock at its maxHoldMs', other.acquire(key))
        assertLost(lock, 'a lock at its maxHoldMs')
        assert.equal(lossReason(lock), 'max-hold')
        await next.release()
      },
    },
  ],
}
