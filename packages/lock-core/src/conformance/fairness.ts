import assert from 'node:assert/strict'
import type { Lock } from '../locker.ts'
import type { Topic } from './bench.ts'

/** Promise 6: those who wait are served in order. */
export const fairness: Topic = {
  name: 'fairness',
  cases: [
    {
      name: 'waiters of one process are served in the order in which they came',
      async run(bench) {
        const locker = await bench.locker()
        const key = bench.key()
        const holder = await bench.take(locker, key)
        const served: number[] = []
        const wait = async (place: number): Promise<void> => {
          const lock = await locker.acquire(key)
          served.push(place)
          await lock.release()
        }
        const waiters = Array.from({ length: 12 }, (_, place) => bench.start(wait(place)))
        await bench.until('somebody waits', async () => (await locker.status(key)).waiters > 0)
        await holder.release()
        await bench.soon('all waiters', Promise.all(waiters))
        assert.deepEqual(served, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11])
      },
    },
    {
      name: 'waiters of several processes are served in the order in which they came',
      skip: ({ capabilities }) => (capabilities.fifo === 'global' ? null : 'the adapter is fair within a process only'),
      async run(bench) {
        const lockers = await bench.lockers(5)
        const key = bench.key()
        const holder = await bench.take(lockers[0], key)
        const served: number[] = []
        const waiters: Promise<void>[] = []
        for (const [place, locker] of lockers.entries()) {
          const turn = locker.acquire(key).then((lock) => {
            served.push(place)
            return lock.release()
          })
          waiters.push(bench.start(turn))
          await bench.waiting(lockers[0], key, place + 1)
        }
        await holder.release()
        await bench.soon('all waiters', Promise.all(waiters))
        assert.deepEqual(served, [0, 1, 2, 3, 4])
      },
    },
    {
      name: 'a newcomer of the same process does not overtake a waiter when the key is released',
      async run(bench) {
        const locker = await bench.locker()
        for (let round = 0; round < 10; round += 1) {
          const key = bench.key()
          const holder = await bench.take(locker, key)
          const waiter = bench.start(locker.acquire(key))
          await bench.waiting(locker, key, 1)
          const [, newcomer] = await bench.soon('the release', Promise.all([holder.release(), locker.tryAcquire(key)]))
          assert.equal(newcomer, null, 'a newcomer got the key although somebody stood in line')
          await (await bench.soon('the waiter', waiter)).release()
        }
      },
    },
    {
      name: 'an exclusive waiter is not starved by shared newcomers of its process',
      skip: ({ capabilities }) => (capabilities.modes.includes('shared') ? null : 'the adapter has no shared mode'),
      async run(bench) {
        const locker = await bench.locker()
        const key = bench.key()
        const reader = await bench.take(locker, key, { mode: 'shared' })
        const served: string[] = []
        const enter = (name: string) => (lock: Lock) => {
          served.push(name)
          return lock.release()
        }
        const writer = bench.start(locker.acquire(key).then(enter('writer')))
        await bench.waiting(locker, key, 1)
        assert.equal(await locker.tryAcquire(key, { mode: 'shared' }), null, 'a shared newcomer overtook the writer')
        const late = bench.start(locker.acquire(key, { mode: 'shared' }).then(enter('late reader')))
        await reader.release()
        await bench.soon('both waiters', Promise.all([writer, late]))
        assert.deepEqual(served, ['writer', 'late reader'])
      },
    },
  ],
}
