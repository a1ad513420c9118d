import { Bench, type Case, type Facts, type Topic } from './bench.ts'
import { cancellation } from './cancellation.ts'
import { type ConformanceOptions, checkConformanceOptions } from './conformance-options.ts'
import { contract } from './contract.ts'
import { dispose } from './dispose.ts'
import { exclusion } from './exclusion.ts'
import { fairness } from './fairness.ts'
import { fencing } from './fencing.ts'
import { leadership } from './leadership.ts'
import { loss } from './loss.ts'
import { many } from './many.ts'
import { renewal } from './renewal.ts'
import { semaphores } from './semaphores.ts'
import { shared } from './shared.ts'

const topics: readonly Topic[] = [
  contract,
  exclusion,
  fencing,
  shared,
  fairness,
  cancellation,
  renewal,
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
 * @throws {ConfigurationError}
 * @example
 * lockerConformance({
 *   name: 'memory',
 *   runner: { describe, it, skip: (name, reason) => it.skip(`${name} (${reason})`, () => {}) },
 *   capabilities: createMemoryLocker().capabilities,
 *   createLocker: async () => createMemoryLocker({ store }),
 * })
 */
export function lockerConformance(options: ConformanceOptions): void {
  checkConformanceOptions(options)
  const { runner } = options
  const seed = options.seed ?? Math.floor(Math.random() * 4_294_967_296)
  const facts: Facts = {
    capabilities: options.capabilities,
    renewsGivenTtl: options.renewsGivenTtl ?? false,
    hooks: options.hooks ?? {},
  }
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
