import assert from 'node:assert/strict'
import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises'
import { hasErrorCode } from '../errors.ts'
import type { Lock, Locker } from '../locker.ts'
import type { Bench } from './bench.ts'
import type { History } from './history.ts'
import type { Random } from './random.ts'

/** Lets a few workers do as they like with two keys, and records what they believed. */
export async function runSchedule(
  bench: Bench,
  lockers: readonly [Locker, ...Locker[]],
  history: History,
): Promise<void> {
  const keys: readonly [string, string] = [bench.key(), bench.key()]
  const workers = 3 + bench.random.below(4)
  await Promise.all(
    Array.from({ length: workers }, async (_, worker) => {
      const random = bench.random.fork()
      const locker = random.pick(lockers)
      for (let step = 0; step < 4; step += 1) {
        await work(bench, random, locker, random.pick(keys), `worker ${worker}`, history)
      }
    }),
  )
}

async function work(
  bench: Bench,
  random: Random,
  locker: Locker,
  key: string,
  who: string,
  history: History,
): Promise<void> {
  const lock = await attempt(bench, random, locker, key)
  if (lock === null) {
    await pause(random)
    return
  }
  const leave = history.enter(lock, who)
  assert.equal(lock.isHeld(), true, `${who}: a lock that was just granted is not held`)
  const turns = random.below(4)
  for (let turn = 0; turn < turns; turn += 1) await pause(random)
  // What the lock protects ends here, before anything is sent to the store.
  assert.equal(lock.isHeld(), true, `${who}: the lock was lost without a reason: ${String(lock.signal.reason)}`)
  leave()
  if (random.chance(0.5)) await lock.release()
  else await lock[Symbol.asyncDispose]()
}

async function attempt(bench: Bench, random: Random, locker: Locker, key: string): Promise<Lock | null> {
  const mode = bench.capabilities.modes.includes('shared') && random.chance(0.3) ? 'shared' : 'exclusive'
  const way = random.below(4)
  if (way === 0) return locker.tryAcquire(key, { mode })
  if (way === 1) return locker.acquire(key, { mode })
  const controller = new AbortController()
  const reason = new Error('the worker has changed its mind')
  const patienceMs = random.below(12)
  const changed = way === 2 ? setTimeout(() => controller.abort(reason), patienceMs) : null
  try {
    return await locker.acquire(
      key,
      way === 2 ? { mode, signal: controller.signal } : { mode, waitTimeoutMs: patienceMs },
    )
  } catch (error) {
    if (error === reason || hasErrorCode(error, 'LOCK_TIMEOUT')) return null
    throw error
  } finally {
    if (changed !== null) clearTimeout(changed)
  }
}

async function pause(random: Random): Promise<void> {
  if (random.chance(0.5)) await nextTurn()
  else await sleep(random.below(4))
}
