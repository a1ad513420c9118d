import assert from 'node:assert/strict'
import type { Facts, Topic } from './bench.ts'

const needsShared = ({ capabilities }: Facts): string | null =>
  capabilities.modes.includes('shared') ? null : 'the adapter has no shared mode'

/** Shared holders exclude exclusive ones, and not each other. */
export const shared: Topic = {
  name: 'shared and exclusive',
  cases: [
    {
      name: 'a mode that is not offered is refused',
      skip: ({ capabilities }) => (capabilities.modes.includes('shared') ? 'the adapter has a shared mode' : null),
      async run(bench) {
        const locker = await bench.locker()
        const error = await bench.failure('a shared lock', locker.tryAcquire(bench.key(), { mode: 'shared' }))
        assert(error instanceof Error && 'code' in error)
        assert(['INVALID_OPTIONS', 'UNSUPPORTED'].includes(String(error.code)), `got ${String(error)}`)
      },
    },
    {
      name: 'shared holders of one session and of others hold together and keep exclusive ones out',
      skip: needsShared,
      async run(bench) {
        const [one, other] = await bench.lockers(2)
        const key = bench.key()
        const locks = await Promise.all([one, one, other].map((locker) => bench.take(locker, key, { mode: 'shared' })))
        assert.deepEqual(
          locks.map((lock) => lock.mode),
          ['shared', 'shared', 'shared'],
        )
        assert.equal(await other.tryAcquire(key), null, 'an exclusive lock beside shared ones')
        const { holders } = await other.status(key)
        assert.deepEqual(
          holders.map((holder) => holder.mode),
          holders.map(() => 'shared'),
          'status() shows another mode',
        )
        for (const session of new Set(locks.map((lock) => lock.sessionId))) {
          assert(
            holders.some((holder) => holder.sessionId === session || holder.sessionId === null),
            `status() does not show the shared holder ${session}`,
          )
        }
        for (const lock of locks) {
          assert.equal(await one.tryAcquire(key), null, 'an exclusive lock beside shared ones')
          assert.equal(await other.tryAcquire(key), null, 'an exclusive lock beside shared ones')
          await lock.release()
        }
        const exclusive = await bench.take(other, key)
        assert.equal(await one.tryAcquire(key, { mode: 'shared' }), null, 'a shared lock beside an exclusive one')
        assert.equal(await other.tryAcquire(key, { mode: 'shared' }), null, 'a shared lock beside an exclusive one')
        await exclusive.release()
      },
    },
    {
      name: 'the last shared holder hands over to an exclusive waiter, who hands over to all shared waiters',
      skip: needsShared,
      async run(bench) {
        const [one, other] = await bench.lockers(2)
        const key = bench.key()
        const readers = [
          await bench.take(one, key, { mode: 'shared' }),
          await bench.take(other, key, { mode: 'shared' }),
        ] as const
        const writer = bench.start(other.acquire(key))
        await bench.waiting(one, key, 1)
        await readers[0].release()
        await readers[1].release()
        const exclusive = await bench.soon('the exclusive waiter', writer)
        const waiting = [1, 2].map(() => bench.start(one.acquire(key, { mode: 'shared' })))
        await bench.until('they wait', async () => (await other.status(key)).waiters > 0)
        await exclusive.release()
        const locks = await bench.soon('all shared waiters, together', Promise.all(waiting))
        assert.deepEqual(
          locks.map((lock) => lock.isHeld()),
          [true, true],
        )
        await Promise.all(locks.map((lock) => lock.release()))
      },
    },
  ],
}
