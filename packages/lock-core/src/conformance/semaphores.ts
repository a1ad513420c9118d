import assert from 'node:assert/strict'
import { setTimeout as sleep } from 'node:timers/promises'
import { createSemaphore } from '../semaphore.ts'
import { assertCode, type Topic } from './bench.ts'

/** A counting semaphore out of plain locks. */
export const semaphores: Topic = {
  name: 'semaphores',
  cases: [
    {
      name: 'never more holders than permits, and everybody gets a turn',
      async run(bench) {
        const lockers = await bench.lockers(2)
        const key = bench.key()
        const semaphoreOf = lockers.map((locker) => createSemaphore({ locker, key, permits: 2 }))
        let holders = 0
        let most = 0
        const workers = Array.from({ length: 8 }, async (_, worker) => {
          const random = bench.random.fork()
          await semaphoreOf[worker % 2]?.withPermit(async (permit) => {
            holders += 1
            most = Math.max(most, holders)
            assert(holders <= 2, `${holders} holders of 2 permits`)
            assert.equal(permit.lock.isHeld(), true)
            // The first waits for company: on a store that hands over slowly two would meet by luck only.
            await bench.until('both permits are in use', () => most === 2)
            await sleep(random.below(4))
            holders -= 1
          })
        })
        await bench.soon('all workers', Promise.all(workers), 4 * bench.patienceMs)
        assert.equal(most, 2, 'the permits were never used at the same time')
      },
    },
    {
      name: 'a full semaphore refuses, times out, and hands over a permit that is given back',
      async run(bench) {
        const [one, other] = await bench.lockers(2)
        const key = bench.key()
        const semaphore = createSemaphore({ locker: one, key, permits: 3 })
        const elsewhere = createSemaphore({ locker: other, key, permits: 3 })
        const permits = [await semaphore.acquire(), await semaphore.acquire(), await elsewhere.acquire()] as const
        assert.deepEqual(permits.map((permit) => permit.slot).toSorted(), [0, 1, 2])
        assert.equal(await elsewhere.tryAcquire(), null, 'a fourth permit of three')
        for (const waitTimeoutMs of [0, 60]) {
          const error = await bench.failure('a full semaphore', elsewhere.acquire({ waitTimeoutMs }))
          assertCode(error, 'LOCK_TIMEOUT', 'a full semaphore')
        }
        const waiter = bench.start(elsewhere.acquire())
        await bench.until('somebody stands in line', async () => {
          const slots = await Promise.all([0, 1, 2].map((slot) => one.status(`${key}/permit/${slot}`)))
          return slots.every(({ waiters }) => waiters === 1)
        })
        await permits[1].release()
        const handedOver = await bench.soon('the permit that was given back', waiter)
        assert.equal(handedOver.slot, permits[1].slot)
        assert.equal(await semaphore.tryAcquire(), null, 'the waiter got more than one permit')
        await Promise.all([permits[0].release(), permits[2].release(), handedOver.release()])
        assertCode(
          await bench.failure('the second release', handedOver.release()),
          'LOCK_NOT_HELD',
          'the second release',
        )
      },
    },
  ],
}
