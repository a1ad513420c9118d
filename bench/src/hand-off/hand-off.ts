import { spawnNode, type TestProcess } from '@x/testkit'
import { z } from 'zod'
import type { Contender } from '../benchmark.ts'
import { contender } from '../contender.ts'

const message = z.object({ kind: z.string(), holds: z.array(z.tuple([z.number(), z.number()])).optional() })
type Worker = TestProcess<z.output<typeof message>>

const processes = 4
const forMs = 1_500

/**
 * From one release to the next grant, under contention: by 2 waiters in as many processes, by 4, and by 100 in four. More
 * processes on one core are slower whatever they do; from 4 to 100 only the number of waiters changes.
 */
export const handOff = (way: 'bare' | 'server' | 'notify'): Contender =>
  contender({
    async open({ url }) {
      return Promise.all(
        Array.from({ length: processes }, async () => {
          const worker: Worker = await spawnNode(new URL('./worker.ts', import.meta.url), {
            messages: message,
            args: [url, way],
          })
          await worker.message(({ kind }) => kind === 'ready', 30_000)
          return worker
        }),
      )
    },
    async round(workers) {
      const two = await measure(workers.slice(0, 2), 1)
      const four = await measure(workers, 1)
      const hundred = await measure(workers, 25)
      return {
        p50Us2: two.p50,
        p50Us4: four.p50,
        p50Us100: hundred.p50,
        p99Us100: hundred.p99,
        '100to4': hundred.p50 / four.p50,
        '100to2': hundred.p50 / two.p50,
      }
    },
    async close(workers) {
      await Promise.all(workers.map((worker) => worker.kill()))
    },
  })

/** Microseconds from the call of a release to the grant of another waiter, in whichever process. */
const measure = async (workers: readonly Worker[], waiters: number): Promise<{ p50: number; p99: number }> => {
  const answers = workers.map(async (worker, process) => {
    const known = worker.messages.length
    worker.send({ waiters, forMs })
    const done = await worker.message((said) => said.kind === 'done' && worker.messages.indexOf(said) >= known, 60_000)
    return (done.holds ?? []).map(([waiter, at]) => ({ process, who: `${process}/${waiter}`, at }))
  })
  const grants = (await Promise.all(answers)).flat().toSorted((one, other) => one.at - other.at)
  const gaps = grants.flatMap(({ who, at }, index) => {
    const before = grants[index - 1]
    return before === undefined || before.who === who ? [] : [at - before.at]
  })
  gaps.sort((a, b) => a - b)
  return {
    p50: gaps[Math.floor(gaps.length / 2)] ?? Number.NaN,
    p99: gaps[Math.floor(gaps.length * 0.99)] ?? Number.NaN,
  }
}
