import type { Locker, LockerCapabilities } from '../locker.ts'
import { Bench, type Case, type Facts, type Topic } from './bench.ts'
import { cancellation } from './cancellation.ts'
import { contract } from './contract.ts'
import { dispose } from './dispose.ts'
import { exclusion } from './exclusion.ts'
import { fairness } from './fairness.ts'
import { fencing } from './fencing.ts'
import { leadership } from './leadership.ts'
import { loss } from './loss.ts'
import { many } from './many.ts'
import { semaphores } from './semaphores.ts'
import { shared } from './shared.ts'

/** What the suite needs of a test runner; vitest, jest and node:test are adapted in three lines. */
export interface TestRunner {
  describe(name: string, fn: () => void): void
  it(name: string, fn: () => Promise<void>): void
  /** Reports a promise that does not apply; it must never count as passed. */
  skip(name: string, reason: string): void
}

/** Ways to harm a locker; each one that is missing skips the cases that need it. */
export interface ConformanceHooks {
  /** Ends the locker's session behind its back, as a broken connection would. */
  endSession?(locker: Locker): Promise<void>
  /** Stops the locker from reaching its store, as a stopped process; the result lets it go on. */
  freezeSession?(locker: Locker): Promise<() => Promise<void>>
  /** Takes the lock away by force. */
  forceRelease?(key: string): Promise<void>
  restartStore?(): Promise<void>
  /** What is left in the store although nobody holds or waits for anything; empty when all is clean. */
  leaks?(): Promise<readonly string[]>
}

/** What the suite is given. */
export interface ConformanceOptions {
  /** Shown in the names of the tests. */
  name: string
  runner: TestRunner
  /** What the adapter promises, known while tests are declared; compared with what its lockers say. */
  capabilities: LockerCapabilities
  /** Each call makes another session on one store. */
  createLocker(): Promise<Locker>
  /** Milliseconds: a ttl for the cases in which a lease runs out. @default 500 */
  ttlMs?: number
  /** Milliseconds within which a holder hears of the end of its session. @default 5_000 */
  detectMs?: number
  /** Of all random schedules; printed in the names of the tests. @default random */
  seed?: number
  /** Random schedules per case. @default 50 */
  schedules?: number
  hooks?: ConformanceHooks
}

const topics: readonly Topic[] = [
  contract,
  exclusion,
  fencing,
  shared,
  fairness,
  cancellation,
  loss,
  dispose,
  many,
  semaphores,
  leadership,
]

/**
 * Declares tests that check every promise of a `Locker` against an adapter. Cases that do not apply to its capabilities,
 * or need a hook that is not given, are reported as skipped. It depends on no test runner.
 *
 * @example
 * lockerConformance({
 *   name: 'memory',
 *   runner: { describe, it, skip: (name, reason) => it.skip(`${name} (${reason})`, () => {}) },
 *   capabilities: createMemoryLocker().capabilities,
 *   createLocker: async () => createMemoryLocker({ store }),
 * })
 */
export function lockerConformance(options: ConformanceOptions): void {
  const { runner } = options
  const seed = options.seed ?? Math.floor(Math.random() * 4_294_967_296)
  const facts: Facts = { capabilities: options.capabilities, hooks: options.hooks ?? {} }
  runner.describe(`${options.name} keeps what a Locker promises (seed ${seed})`, () => {
    for (const topic of topics) {
      runner.describe(topic.name, () => {
        for (const subject of topic.cases) {
          const reason = subject.skip?.(facts) ?? null
          if (reason === null) runner.it(subject.name, () => runCase(subject, options, seed))
          else runner.skip(subject.name, reason)
        }
      })
    }
  })
}

async function runCase(subject: Case, options: ConformanceOptions, seed: number): Promise<void> {
  const bench = new Bench(options, seed)
  try {
    await subject.run(bench)
  } catch (error) {
    // The case has failed: what closing finds besides would hide why.
    await bench.close().catch(() => {})
    throw error
  }
  await bench.close()
}
