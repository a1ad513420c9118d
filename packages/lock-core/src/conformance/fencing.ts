import assert from 'node:assert/strict'
import type { Facts, Topic } from './bench.ts'

const needsTokens = ({ capabilities }: Facts): string | null =>
  capabilities.fencing === 'none' ? 'the adapter has no fencing tokens' : null

/** Promise 2: tokens of a key increase strictly in the order of its grants. */
export const fencing: Topic = {
  name: 'fencing tokens',
  cases: [
    {
      name: 'tokens are null when the adapter has none',
      skip: ({ capabilities }) => (capabilities.fencing === 'none' ? null : 'the adapter has fencing tokens'),
      async run(bench) {
        const lock = await bench.take(await bench.locker(), bench.key())
        assert.equal(lock.fencingToken, null)
        await lock.release()
      },
    },
    {
      name: 'each grant has a higher token than the one before, whichever session gets it',
      skip: needsTokens,
      async run(bench) {
        const lockers = await bench.lockers(3)
        const key = bench.key()
        let last = -1n
        for (let grant = 0; grant < 12; grant += 1) {
          const lock = await bench.take(bench.random.pick(lockers), key)
          assert.equal(typeof lock.fencingToken, 'bigint', 'fencingToken is not a bigint')
          const token = lock.fencingToken ?? -1n
          assert(token > last, `grant ${grant} has token ${token} after ${last}`)
          last = token
          await lock.release()
        }
      },
    },
    {
      name: 'waiters get higher tokens than the holder they waited for',
      skip: needsTokens,
      async run(bench) {
        const [one, other] = await bench.lockers(2)
        const key = bench.key()
        let holder = await bench.take(one, key)
        for (let round = 0; round < 10; round += 1) {
          const waiter = bench.start((round % 2 === 0 ? other : one).acquire(key))
          await bench.waiting(one, key, 1)
          const before = holder.fencingToken ?? -1n
          await holder.release()
          holder = await bench.soon('the hand-off', waiter)
          assert((holder.fencingToken ?? -1n) > before, `token ${holder.fencingToken} after ${before}`)
        }
        await holder.release()
      },
    },
    {
      name: 'a token never comes again when every session was closed',
      skip: needsTokens,
      async run(bench) {
        const key = bench.key()
        const first = await bench.locker()
        const before = (await bench.take(first, key)).fencingToken ?? -1n
        await first.close()
        const second = await bench.locker()
        const after = await bench.soon('the key of a closed locker', second.acquire(key))
        assert((after.fencingToken ?? -1n) > before, `token ${after.fencingToken} after ${before}`)
        await after.release()
      },
    },
    {
      name: 'the token after a lease that ran out is higher',
      skip: needsTokens,
      async run(bench) {
        const [one, other] = await bench.lockers(2)
        const key = bench.key()
        const lost = await bench.take(one, key, bench.shortLease)
        const next = await bench.soon('the lease to run out', other.acquire(key))
        assert(
          (next.fencingToken ?? -1n) > (lost.fencingToken ?? -1n),
          `token ${next.fencingToken} after ${lost.fencingToken}`,
        )
        await next.release()
      },
    },
    {
      name: 'the token after a restart of the store is higher',
      skip: ({ capabilities, hooks }) => {
        if (capabilities.fencing !== 'durable') return 'tokens do not outlive the process'
        return hooks.restartStore === undefined ? 'hooks.restartStore is not given' : null
      },
      async run(bench) {
        const key = bench.key()
        const first = await bench.locker()
        const lock = await bench.take(first, key)
        const before = lock.fencingToken ?? -1n
        await lock.release()
        await first.close()
        await bench.hooks.restartStore?.()
        const second = await bench.locker()
        const after = await bench.soon('a grant after the restart', second.acquire(key))
        assert((after.fencingToken ?? -1n) > before, `token ${after.fencingToken} after ${before}`)
        await after.release()
      },
    },
  ],
}
