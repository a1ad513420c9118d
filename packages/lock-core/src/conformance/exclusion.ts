import assert from 'node:assert/strict'
import type { Topic } from './bench.ts'
import { exclusionViolations, fencingViolations, History } from './history.ts'
import { runSchedule } from './schedule.ts'

/** Promise 1: one exclusive holder, or any number of shared ones. */
export const exclusion: Topic = {
  name: 'exclusion',
  cases: [
    {
      name: 'a held key is refused to another session and to the same one, until it is released',
      async run(bench) {
        const [one, other] = await bench.lockers(2)
        const key = bench.key()
        const lock = await bench.take(one, key)
        assert.equal(await other.tryAcquire(key), null, 'another session got a key that is held')
        assert.equal(await one.tryAcquire(key), null, 'the holding session got the key a second time')
        assert.equal(lock.isHeld(), true)
        const released = lock.release()
        // The store may give the key away before its answer is here.
        assert.equal(lock.isHeld(), false, 'isHeld() is true while release() is on its way')
        await released
        assert.equal(lock.isHeld(), false, 'isHeld() is true after release()')
        const next = await bench.take(other, key)
        assert.equal(await one.tryAcquire(key), null, 'the former holder got a key that is held')
        await next.release()
      },
    },
    {
      name: 'of many who try at once exactly one succeeds',
      async run(bench) {
        const lockers = await bench.lockers(3)
        for (let round = 0; round < 20; round += 1) {
          const key = bench.key()
          const tries = lockers.flatMap((locker) => Array.from({ length: 8 }, () => locker.tryAcquire(key)))
          const locks = (await bench.soon('24 answers to tryAcquire', Promise.all(tries))).filter(
            (lock) => lock !== null,
          )
          assert.equal(locks.length, 1, `${locks.length} of 24 got the key`)
          await locks[0]?.release()
        }
      },
    },
    {
      name: 'keys that only look alike are different locks',
      async run(bench) {
        const locker = await bench.locker()
        const stem = bench.key()
        const keys = [
          stem,
          `${stem} `,
          ` ${stem}`,
          stem.toUpperCase(),
          `${stem}/é`,
          `${stem}/e\u0301`,
          `${stem}%`,
          `${stem}_`,
          `${stem}'`,
          `${stem}"`,
          `${stem}\\`,
          `${stem},`,
          `${stem}{}`,
          `${stem}🔒`,
        ]
        const locks = await Promise.all(keys.map((key) => bench.take(locker, key)))
        assert.equal(new Set(locks).size, keys.length)
        assert.deepEqual(
          locks.map((lock) => lock.key),
          keys,
        )
        await Promise.all(locks.map((lock) => lock.release()))
      },
    },
    {
      name: 'holds of random schedules never overlap, and tokens follow the order of grants',
      async run(bench) {
        const lockers = await bench.lockers(3)
        for (let schedule = 0; schedule < bench.schedules; schedule += 1) {
          const history = new History()
          await bench.soon(
            `the end of schedule ${schedule}`,
            runSchedule(bench, lockers, history),
            4 * bench.patienceMs,
          )
          assert.deepEqual(exclusionViolations(history.holds), [], `schedule ${schedule}`)
          if (bench.capabilities.fencing !== 'none') {
            assert.deepEqual(fencingViolations(history.holds), [], `schedule ${schedule}`)
          }
        }
      },
    },
    {
      name: 'holds whose ttl runs out end before the next one begins',
      async run(bench) {
        const lockers = await bench.lockers(3)
        const history = new History()
        const key = bench.key()
        const workers = Array.from({ length: 6 }, async (_, worker) => {
          const lock = await (lockers[worker % 3] ?? lockers[0]).acquire(key, bench.shortLease)
          history.enter(lock, `worker ${worker}`)
          // Every other one forgets to release it.
          if (worker % 2 === 1) await lock[Symbol.asyncDispose]()
        })
        await bench.soon('all workers', Promise.all(workers.map((worker) => bench.start(worker))), 4 * bench.patienceMs)
        assert.deepEqual(exclusionViolations(history.holds), [])
      },
    },
  ],
}
