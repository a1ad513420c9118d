import assert from 'node:assert/strict'
import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises'
import { monotonicNow } from '../adapter/clock.ts'
import { hasErrorCode } from '../errors.ts'
import { assertCode, type Topic } from './bench.ts'

/** Promise 5: who gives up never ends up holding the lock, and delays nobody. */
export const cancellation: Topic = {
  name: 'cancellation',
  cases: [
    {
      name: 'waitTimeoutMs ends the wait, not before its time; 0 is one attempt',
      async run(bench) {
        const [one, other] = await bench.lockers(2)
        const key = bench.key()
        const lock = await bench.take(one, key)
        for (const waitTimeoutMs of [0, 60]) {
          const startedAt = monotonicNow()
          const error = await bench.failure('acquire of a held key', other.acquire(key, { waitTimeoutMs }))
          assertCode(error, 'LOCK_TIMEOUT', `acquire with waitTimeoutMs ${waitTimeoutMs}`)
          assert(monotonicNow() - startedAt >= waitTimeoutMs, 'the wait ended before its timeout')
        }
        await lock.release()
        const free = await bench.soon('a free key', other.acquire(key, { waitTimeoutMs: 0 }))
        await free.release()
      },
    },
    {
      name: 'an aborted signal rejects with its reason, untouched, before anything is asked',
      async run(bench) {
        const locker = await bench.locker()
        const key = bench.key()
        const reason = { any: 'value' }
        const signal = AbortSignal.abort(reason)
        assert.equal(await bench.failure('acquire', locker.acquire(key, { signal })), reason)
        assert.equal(await bench.failure('tryAcquire', locker.tryAcquire(key, { signal })), reason)
        await (await bench.take(locker, key)).release()
      },
    },
    {
      name: 'an abort ends the wait at once, and the key is free when the holder releases it',
      async run(bench) {
        const [one, other] = await bench.lockers(2)
        for (const waiter of [one, other]) {
          const key = bench.key()
          const lock = await bench.take(one, key)
          const controller = new AbortController()
          const reason = new Error('enough')
          const failed = bench.failure('an aborted wait', waiter.acquire(key, { signal: controller.signal }))
          await bench.waiting(one, key, 1)
          controller.abort(reason)
          assert.equal(await failed, reason, 'the reason of the signal was replaced')
          assert.equal(lock.isHeld(), true)
          await lock.release()
          await bench.becomesFree(other, key, 'the key is free after its waiter gave up')
          await bench.waiting(one, key, 0)
        }
      },
    },
    {
      name: 'who gives up does not delay those behind',
      async run(bench) {
        const [one, other] = await bench.lockers(2)
        const key = bench.key()
        const lock = await bench.take(one, key)
        const controller = new AbortController()
        const gaveUp = bench.failure('an aborted wait', other.acquire(key, { signal: controller.signal }))
        await bench.waiting(one, key, 1)
        const behind = [bench.start(one.acquire(key)), bench.start(other.acquire(key))] as const
        controller.abort(new Error('enough'))
        await gaveUp
        await lock.release()
        const first = await bench.soon('one of those behind', Promise.race(behind))
        await first.release()
        const locks = await bench.soon('all of those behind', Promise.all(behind))
        await locks.find((granted) => granted.isHeld())?.release()
      },
    },
    {
      name: 'shared waiters go ahead when the exclusive waiter before them gives up',
      skip: ({ capabilities }) => (capabilities.modes.includes('shared') ? null : 'the adapter has no shared mode'),
      async run(bench) {
        const locker = await bench.locker()
        const key = bench.key()
        const reader = await bench.take(locker, key, { mode: 'shared' })
        const controller = new AbortController()
        const writer = bench.failure('an aborted wait', locker.acquire(key, { signal: controller.signal }))
        const behind = bench.start(locker.acquire(key, { mode: 'shared' }))
        await nextTurn()
        controller.abort(new Error('enough'))
        await writer
        const granted = await bench.soon('the shared waiter', behind)
        assert.equal(reader.isHeld(), true)
        await Promise.all([granted.release(), reader.release()])
      },
    },
    {
      name: 'an abort that races with the hand-off gives the lock or the reason, and never strands the key',
      async run(bench) {
        const [one, other] = await bench.lockers(2)
        for (let round = 0; round < bench.schedules; round += 1) {
          const key = bench.key()
          const holder = await bench.take(one, key)
          const controller = new AbortController()
          const reason = new Error('changed its mind')
          const waiter = bench.random.chance(0.5) ? one : other
          const timed = bench.random.chance(0.3)
          const wait = waiter.acquire(
            key,
            timed ? { waitTimeoutMs: bench.random.below(6) } : { signal: controller.signal },
          )
          const outcome = bench.start(
            wait.then(
              (lock) => lock,
              (error: unknown) => {
                if (error === reason || hasErrorCode(error, 'LOCK_TIMEOUT')) return null
                throw error
              },
            ),
          )
          const released = bench.start(sleep(bench.random.below(4)).then(() => holder.release()))
          const aborted = sleep(bench.random.below(4)).then(() => controller.abort(reason))
          await bench.soon('the release', Promise.all([released, aborted]))
          const lock = await bench.soon('an outcome of the wait', outcome)
          assert.equal(lock?.isHeld() ?? true, true, 'granted, but not held')
          if (lock !== null) {
            assert.equal(await holderSession(other.tryAcquire(key)), null, 'granted, but free for others')
            await lock.release()
          }
          const next = await bench.soon(
            `the key after round ${round} (${lock === null ? 'gave up' : 'granted'})`,
            other.acquire(key),
          )
          await next.release()
        }
      },
    },
    {
      name: 'waiters of a closed locker stand in nobody’s way',
      async run(bench) {
        const [one, other, third] = [...(await bench.lockers(2)), await bench.locker()] as const
        const key = bench.key()
        const lock = await bench.take(one, key)
        const closed = bench.failure('a wait in a closed locker', other.acquire(key))
        await bench.waiting(one, key, 1)
        assert(third !== undefined)
        const behind = bench.start(third.acquire(key))
        await bench.soon('close()', other.close())
        assertCode(await closed, 'CLOSED', 'a waiter of a closed locker')
        await lock.release()
        await (await bench.soon('the waiter behind the closed one', behind)).release()
      },
    },
  ],
}

async function holderSession(
  attempt: Promise<{ readonly sessionId: string; release(): Promise<void> } | null>,
): Promise<string | null> {
  const lock = await attempt
  await lock?.release()
  return lock?.sessionId ?? null
}
