import assert from 'node:assert/strict'
import { isDeepStrictEqual } from 'node:util'
import type { AcquireOptions } from '../locker.ts'
import { assertCode, type Topic } from './bench.ts'

/** What every call answers: fields, status, and refusals of bad input. */
export const contract: Topic = {
  name: 'contract',
  cases: [
    {
      name: 'lockers have the capabilities that the suite was told of',
      async run(bench) {
        const locker = await bench.locker()
        assert.deepEqual(locker.capabilities, bench.capabilities)
        await bench.soon('ping()', locker.ping())
      },
    },
    {
      name: 'a lock says what it is',
      async run(bench) {
        const locker = await bench.locker()
        const key = bench.key()
        const before = Date.now()
        const lock = await bench.take(locker, key)
        assert.equal(lock.key, key)
        assert.equal(lock.mode, 'exclusive')
        assert(lock.sessionId.length > 0, 'sessionId is empty')
        // The store's clock may differ from ours, but not by minutes.
        assert(Math.abs(lock.acquiredAt.getTime() - before) < 120_000, `acquiredAt is ${lock.acquiredAt.toISOString()}`)
        assert(lock.ttlMs > 0)
        assert(lock.remainingMs() > 0)
        lock.assertHeld()
        await lock.release()
      },
    },
    {
      name: 'status() shows holder, token, metadata and waiters, and that a key is free',
      async run(bench) {
        const [one, other] = await bench.lockers(2)
        const key = bench.key()
        const free = await other.status(key)
        assert.equal(free.isAcquired, false)
        assert.equal(free.key, key)
        assert.equal(free.mode, null)
        assert.deepEqual(free.holders, [])
        const metadata = JSON.parse('{"job":"night","__proto__":"plain"}') as Record<string, string>
        const lock = await bench.take(one, key, { metadata })
        const status = await other.status(key)
        assert.equal(status.isAcquired, true)
        assert.equal(status.mode, 'exclusive')
        assert.equal(status.sessionId, lock.sessionId)
        // Where the store keeps nothing but the lock itself, only the holder knows his token.
        if (bench.capabilities.lease) assert.equal(status.fencingToken, lock.fencingToken)
        else assert((status.fencingToken ?? lock.fencingToken) === lock.fencingToken)
        assert.equal((await one.status(key)).fencingToken, lock.fencingToken, 'the holder does not see his own token')
        assert.equal(status.holders.length, 1)
        assert.equal(status.waiters, 0)
        const shown = (await one.status(key)).metadata
        assert(
          shown === null || isDeepStrictEqual({ ...shown }, { ...metadata }),
          `metadata is ${JSON.stringify(shown)}`,
        )
        const waiter = bench.start(other.acquire(key))
        await bench.waiting(one, key, 1)
        await lock.release()
        await (await bench.soon('the waiter', waiter)).release()
        assert.equal((await one.status(key)).isAcquired, false)
      },
    },
    {
      name: 'bad keys are refused by every call before anything happens',
      async run(bench) {
        const locker = await bench.locker()
        const bad: readonly unknown[] = [
          '',
          'a\0b',
          '\ud800',
          'x'.repeat(1_025),
          '日'.repeat(342),
          7,
          null,
          undefined,
          {},
        ]
        for (const key of bad) {
          for (const call of ['tryAcquire', 'acquire', 'status'] as const) {
            const error = await bench.failure(
              `${call} of a bad key`,
              callWith(() => locker[call](key as string)),
            )
            assertCode(error, 'INVALID_OPTIONS', `${call} of ${JSON.stringify(key)?.slice(0, 20)}`)
          }
          if (locker.tryAcquireMany === undefined) continue
          for (const keys of [[bench.key(), key], key]) {
            const error = await bench.failure(
              'tryAcquireMany of bad keys',
              callWith(async () => locker.tryAcquireMany?.(keys as string[])),
            )
            assertCode(error, 'INVALID_OPTIONS', `tryAcquireMany of ${JSON.stringify(keys)?.slice(0, 60)}`)
          }
        }
        await (await bench.take(locker, 'x'.repeat(1_024))).release()
      },
    },
    {
      name: 'bad options are refused before anything happens',
      async run(bench) {
        const locker = await bench.locker()
        const key = bench.key()
        const bad: readonly unknown[] = [
          { ttlMs: 99 },
          { ttlMs: Number.NaN },
          { ttlMs: -1 },
          { ttlMs: '500' },
          { mode: 'write' },
          { renew: 'sometimes' },
          { maxHoldMs: 0 },
          { maxHoldMs: Number.NaN },
          { minHoldMs: -1 },
          { minHoldMs: Number.POSITIVE_INFINITY },
          { waitTimeoutMs: -1 },
          { waitTimeoutMs: Number.NaN },
          { metadata: { job: 7 } },
          { metadata: { job: 'x'.repeat(5_000) } },
          { metadata: { job: 'a\0' } },
          { signal: {} },
        ]
        for (const options of bad) {
          for (const call of ['tryAcquire', 'acquire'] as const) {
            const what = `${call} with ${JSON.stringify(options).slice(0, 60)}`
            const error = await bench.failure(
              what,
              callWith(() => locker[call](key, options as AcquireOptions)),
            )
            assertCode(error, 'INVALID_OPTIONS', what)
          }
        }
        await (await bench.take(locker, key)).release()
      },
    },
  ],
}

/** A call that throws at once counts as one that rejects. */
async function callWith(call: () => Promise<unknown>): Promise<unknown> {
  return call()
}
