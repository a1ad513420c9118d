import assert from 'node:assert/strict'
import { monotonicNow } from '../adapter/clock.ts'
import type { Lock, Locker } from '../locker.ts'
import { assertCode, assertLost, assertOver, type Bench, lossReason, type Topic } from './bench.ts'

/** Promises 3, 4 and 7: nothing is lost silently, and a lost lock cannot harm the next holder. */
export const loss: Topic = {
  name: 'loss',
  cases: [
    {
      name: 'a ttl that runs out ends the lock: signal, isHeld, remainingMs, assertHeld',
      async run(bench) {
        const locker = await bench.locker()
        const lock = await bench.take(locker, bench.key(), bench.shortLease)
        assert.equal(lock.ttlMs, bench.ttlMs)
        const left = lock.remainingMs()
        assert(left > 0 && left <= bench.ttlMs, `remainingMs() is ${left} of ${bench.ttlMs}`)
        let aborts = 0
        lock.signal.addEventListener('abort', () => (aborts += 1))
        await bench.until('the signal aborts', () => aborts > 0)
        assertLost(lock, 'a lock whose ttl ran out')
        assert.equal(lock.signal.aborted, true)
        assert.equal(aborts, 1, 'the signal has aborted more than once')
      },
    },
    {
      name: 'a holder knows of its loss before the next one is granted the key',
      async run(bench) {
        const [one, other] = await bench.lockers(2)
        const key = bench.key()
        const lock = await bench.take(one, key, bench.shortLease)
        const { signal } = lock
        const next = await bench.soon(
          'the next holder',
          other.acquire(key).then((granted) => {
            assert.equal(lock.isHeld(), false, 'two holders: isHeld() is true for the one whose ttl ran out')
            assert.equal(signal.aborted, true, 'the signal had not aborted when the next holder was granted the key')
            return granted
          }),
        )
        await next.release()
      },
    },
    {
      name: 'whoever tries without a pause at the end of a lease never meets a holder who believes in it',
      async run(bench) {
        const [one, other] = await bench.lockers(2)
        const leases: { readonly key: string; readonly lock: Lock }[] = []
        // At many places within a millisecond: a store may count in whole ones, and cut off what the holder still counts.
        for (let count = 0; count < 16; count += 1) {
          const key = bench.key()
          leases.push({ key, lock: await bench.take(one, key, bench.shortLease) })
          const pauseEndsAt = monotonicNow() + 4 * bench.random.next()
          while (monotonicNow() < pauseEndsAt);
        }
        for (const { key, lock } of leases) {
          await bench.until('the lease is nearly over', () => lock.remainingMs() < 10)
          const giveUpAt = monotonicNow() + bench.patienceMs
          let next: Lock | null = null
          while (next === null && monotonicNow() < giveUpAt) next = await other.tryAcquire(key)
          assert.equal(lock.isHeld(), false, 'two holders: the next one came before the holder had stopped believing')
          assert(next !== null, `not within ${bench.patienceMs} ms: the key of a lease that is over`)
          await next.release()
        }
      },
    },
    {
      name: 'after a blocked event loop the very next line knows of the loss',
      async run(bench) {
        const locker = await bench.locker()
        const unread = await bench.take(locker, bench.key(), bench.shortLease)
        const read = await bench.take(locker, bench.key(), bench.shortLease)
        const { signal } = read
        assert.equal(signal.aborted, false)
        const endsAt = monotonicNow() + bench.ttlMs + 20
        while (monotonicNow() < endsAt);
        assert.equal(signal.aborted, true, 'signal.aborted is false in the first line after the deadline')
        assertLost(read, 'a lock whose signal was read before')
        assertLost(unread, 'a lock whose signal was not read before')
      },
    },
    {
      name: 'release and refresh of a lost lock reject, dispose is silent, and the next holder keeps the key',
      async run(bench) {
        const [one, other] = await bench.lockers(2)
        // A grant of the same session as well: what belongs to a session instead of a grant is freed by the wrong one.
        const rounds = [other, one].map(async (successor) => {
          const key = bench.key()
          const lost = await bench.take(one, key, bench.shortLease)
          const next = await bench.soon('the next holder', successor.acquire(key))
          assertCode(await bench.failure('refresh of a lost lock', lost.refresh()), 'LOCK_NOT_HELD', 'refresh')
          assertCode(await bench.failure('release of a lost lock', lost.release()), 'LOCK_NOT_HELD', 'release')
          await bench.soon('dispose of a lost lock', Promise.resolve(lost[Symbol.asyncDispose]()))
          for (const locker of [one, other]) {
            assert.equal(await locker.tryAcquire(key), null, 'the late release freed the lock of the next holder')
          }
          assert.equal(next.isHeld(), true)
          await next.release()
        })
        await Promise.all(rounds.map((round) => bench.start(round)))
      },
    },
    {
      name: 'close() ends every lock and every wait, and frees the keys',
      async run(bench) {
        const [one, other] = await bench.lockers(2)
        const keys = [bench.key(), bench.key()] as const
        const held = [await bench.take(one, keys[0]), await bench.take(one, keys[1])] as const
        const { signal } = held[0]
        const waiting = bench.failure('a wait in a closed locker', one.acquire(keys[0]))
        await bench.soon('close()', one.close())
        assert.equal(signal.aborted, true, 'close() did not abort the signal of a held lock')
        for (const lock of held) {
          assertLost(lock, 'a lock of a closed locker')
          assert.equal(lossReason(lock), 'closed')
        }
        assertCode(await waiting, 'CLOSED', 'a waiter of a closed locker')
        assertCode(await bench.failure('acquire after close', one.acquire(keys[0])), 'CLOSED', 'acquire')
        assertCode(await bench.failure('tryAcquire after close', one.tryAcquire(keys[0])), 'CLOSED', 'tryAcquire')
        assertCode(await bench.failure('status after close', one.status(keys[0])), 'CLOSED', 'status')
        assertCode(await bench.failure('ping after close', one.ping()), 'CLOSED', 'ping')
        if (one.tryAcquireMany !== undefined) {
          assertCode(
            await bench.failure('tryAcquireMany after close', one.tryAcquireMany(keys)),
            'CLOSED',
            'tryAcquireMany',
          )
        }
        await bench.soon('the second close()', one.close())
        for (const key of keys) await bench.becomesFree(other, key, 'a key of a closed locker is free')
      },
    },
    {
      name: 'a session that ends takes its locks with it, loudly, and the locker goes on with a new one',
      skip: ({ hooks }) => (hooks.endSession === undefined ? 'hooks.endSession is not given' : null),
      async run(bench) {
        const [one, other] = await bench.lockers(2)
        const keys = [bench.key(), bench.key()] as const
        const read = await bench.take(one, keys[0])
        const unread = await bench.take(one, keys[1])
        const aborted = aborts(read)
        await bench.hooks.endSession?.(one)
        await bench.soon('the signal to abort after the session ended', aborted, bench.detectMs)
        assertLost(read, 'a lock of a session that ended')
        await bench.until('the lock whose signal nobody read is lost as well', () => !unread.isHeld(), bench.detectMs)
        assertCode(await bench.failure('release', read.release()), 'LOCK_NOT_HELD', 'release after the session ended')
        await bench.becomesFree(other, keys[0], 'the key of a session that ended is free')
        const again = await bench.soon('an acquire in the new session', one.acquire(keys[0]))
        assert.equal(again.isHeld(), true)
        await again.release()
      },
    },
    {
      name: 'a waiter outlives the end of its session',
      skip: ({ hooks }) => (hooks.endSession === undefined ? 'hooks.endSession is not given' : null),
      async run(bench) {
        const [one, other] = await bench.lockers(2)
        const key = bench.key()
        const holder = await bench.take(other, key)
        const waiter = bench.start(one.acquire(key))
        await bench.waiting(other, key, 1)
        await bench.hooks.endSession?.(one)
        await holder.release()
        const granted = await bench.soon('the waiter to get the key in a new session', waiter)
        assert.equal(await other.tryAcquire(key), null, 'the key of the waiter was given twice')
        await granted.release()
      },
    },
    {
      name: 'a holder that cannot reach its store gives up in time',
      skip: ({ hooks }) => (hooks.freezeSession === undefined ? 'hooks.freezeSession is not given' : null),
      async run(bench) {
        const [one, other] = await bench.lockers(2)
        const key = bench.key()
        const lock = await bench.take(one, key, { ttlMs: bench.ttlMs })
        const { signal } = lock
        const thaw = await bench.hooks.freezeSession?.(one)
        try {
          const next = await bench.soon(
            'the key of a frozen holder',
            other.acquire(key).then((granted) => {
              if (bench.capabilities.lossNotice === 'before-regrant') {
                assert.equal(lock.isHeld(), false, 'two holders: the frozen one still believes')
                assert.equal(signal.aborted, true, 'the signal of the frozen holder had not aborted')
              }
              return granted
            }),
          )
          await bench.until('the frozen holder has given up', () => !lock.isHeld(), bench.detectMs)
          await thaw?.()
          assertLost(lock, 'a lock of a frozen session')
          assert.equal(next.isHeld(), true, 'the thawed session took the lock of its successor')
          await next.release()
        } finally {
          await thaw?.()
        }
      },
    },
    {
      name: 'a lock that is taken away by force is lost, and the next holder is alone',
      skip: ({ hooks }) => (hooks.forceRelease === undefined ? 'hooks.forceRelease is not given' : null),
      async run(bench) {
        const [one, other] = await bench.lockers(2)
        const key = bench.key()
        const lock = await bench.take(one, key, { ttlMs: bench.ttlMs })
        const aborted = aborts(lock)
        await bench.hooks.forceRelease?.(key)
        const next = await bench.soon('the key that was freed by force', other.acquire(key))
        await bench.soon('the signal to abort', aborted)
        assertLost(lock, 'a lock that was taken away')
        assertCode(await bench.failure('release', lock.release()), 'LOCK_NOT_HELD', 'release after force')
        assert.equal(next.isHeld(), true)
        assert.equal(await one.tryAcquire(key), null, 'the key that was freed by force was given twice')
        await next.release()
      },
    },
    {
      name: 'a restart of the store ends locks loudly or keeps them, never both',
      skip: ({ hooks }) => (hooks.restartStore === undefined ? 'hooks.restartStore is not given' : null),
      async run(bench) {
        const [one, other] = await bench.lockers(2)
        const key = bench.key()
        const lock = await bench.take(one, key)
        await bench.hooks.restartStore?.()
        if (bench.capabilities.durable) {
          const taken = await tryWhenBack(bench, other, key)
          assert(taken === null || !lock.isHeld(), 'a durable grant was given away in a restart')
          await taken?.release()
          return
        }
        await bench.until('the holder has heard of the restart', () => !lock.isHeld(), bench.detectMs)
        assertLost(lock, 'a lock of a store that was restarted')
        const next = await tryWhenBack(bench, other, key)
        assert(next !== null, 'the key is taken although the restart ended its lock')
        await next.release()
      },
    },
    {
      name: 'release does not abort the signal, and an abort of the wait does not end a granted lock',
      async run(bench) {
        const locker = await bench.locker()
        const controller = new AbortController()
        const lock = await bench.soon('a free key', locker.acquire(bench.key(), { signal: controller.signal }))
        const { signal } = lock
        controller.abort(new Error('too late'))
        assert.equal(lock.isHeld(), true, 'the signal of the wait ended a granted lock')
        assert.equal(signal.aborted, false)
        await lock.release()
        assertOver(lock, 'a released lock')
        assert.equal(signal.aborted, false, 'release() aborted the signal')
        assert.equal(lock.signal.aborted, false)
      },
    },
  ],
}

function aborts(lock: Lock): Promise<void> {
  const { signal } = lock
  return new Promise((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }))
}

async function tryWhenBack(bench: Bench, locker: Locker, key: string): Promise<Lock | null> {
  let taken: Lock | null = null
  await bench.until('the store answers again', async () => {
    try {
      taken = await locker.tryAcquire(key)
      return true
    } catch {
      return false
    }
  })
  return taken
}
