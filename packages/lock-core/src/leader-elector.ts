import { z } from 'zod'
import { systemClock } from './adapter/clock.ts'
import { observabilityOptions } from './adapter/observability-options.ts'
import { checkKey, parseOptions } from './adapter/options.ts'
import { Candidate } from './elector/candidate.ts'
import type { LeaderElector, LeaderElectorOptions } from './leadership.ts'
import { lockerOption } from './locker-argument.ts'

const callback = z.custom<() => void>((value) => typeof value === 'function', 'expected a function').optional()

const schema = z.strictObject({
  locker: lockerOption,
  key: z.string(),
  // Here, because each campaign would fail on it, and start() tells nobody.
  candidate: z
    .string('expected a string')
    .refine((name) => name.isWellFormed() && !name.includes('\0'), 'expected well-formed Unicode without NUL')
    .refine((name) => Buffer.byteLength(JSON.stringify({ candidate: name })) <= 4_096, 'expected at most 4 KiB as JSON')
    .optional(),
  ttlMs: z.number('expected milliseconds, at least 100').min(100, 'expected milliseconds, at least 100').optional(),
  retryMs: z.number('expected milliseconds above 0').positive('expected milliseconds above 0').default(1_000),
  stopTimeoutMs: z.number('expected milliseconds, 0 or more').min(0, 'expected milliseconds, 0 or more').default(5_000),
  elected: callback,
  demoted: callback,
  onError: callback,
  ...observabilityOptions,
})

/**
 * Campaigns for an office over any locker, and hands each term to `elected`.
 *
 * A term ends when its lock is lost, on `resign()` and on `stop()`. Then, in this order: `term.signal` aborts, `demoted` is
 * called, the promise of `elected` has `stopTimeoutMs` to end, the lock is released, the next campaign begins. Two terms of
 * one elector never overlap. What must not be done by two leaders of different processes has to check `fencingToken`.
 *
 * From `start()` to `stop()` it keeps the process running, whichever locker it has.
 *
 * @throws {ConfigurationError}
 * @example
 * const elector = createLeaderElector({
 *   locker,
 *   key: 'scheduler',
 *   elected: (term) => runScheduler({ signal: term.signal }),
 * })
 * elector.start()
 */
export function createLeaderElector(options: LeaderElectorOptions): LeaderElector {
  const { retryMs, stopTimeoutMs } = parseOptions(schema, options, 'createLeaderElector')
  checkKey(options.key)
  return new Candidate({ ...options, retryMs, stopTimeoutMs }, systemClock, Math.random)
}
