import { z } from 'zod'
import { parseOptions } from '../adapter/options.ts'
import type { Locker, LockerCapabilities } from '../locker.ts'

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
  ttlMs?: number | undefined
  /** Milliseconds within which a holder hears of the end of its session. @default 5_000 */
  detectMs?: number | undefined
  /** Of all random schedules; printed in the names of the tests. @default random */
  seed?: number | undefined
  /** Random schedules per case. @default 50 */
  schedules?: number | undefined
  /**
   * Whether `renew: 'auto'` keeps a lock alive whose ttl the caller has given.
   * @default false
   */
  renewsGivenTtl?: boolean | undefined
  hooks?: ConformanceHooks | undefined
}

const callable = z.custom<() => unknown>((value) => typeof value === 'function', 'expected a function')
const hook = callable.optional()
const count = z.number('expected an integer above 0').int().positive('expected an integer above 0').optional()

/** Strict, because a hook that is mistyped would skip the cases that need it. */
const schema = z.strictObject({
  name: z.string('expected a string'),
  runner: z.object(
    { describe: callable, it: callable, skip: callable },
    'expected { describe, it, skip } of your test runner',
  ),
  capabilities: z.object({ modes: z.array(z.string()) }, "expected the adapter's capabilities"),
  createLocker: callable,
  ttlMs: count,
  detectMs: count,
  seed: z.number('expected a number').optional(),
  schedules: count,
  renewsGivenTtl: z.boolean('expected true or false').optional(),
  hooks: z
    .strictObject({ endSession: hook, freezeSession: hook, forceRelease: hook, restartStore: hook, leaks: hook })
    .optional(),
} satisfies Record<keyof ConformanceOptions, z.ZodType>)

/** @throws {ConfigurationError} before a test is declared: a runner's own words for it would not name the option */
export function checkConformanceOptions(options: ConformanceOptions): void {
  parseOptions(schema, options, 'lockerConformance')
}
