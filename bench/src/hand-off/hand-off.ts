import { spawnNode, type TestProcess } from '@x/testkit'
import { z } from 'zod'
import type { Contender } from '../benchmark.ts'
import { contender } from '../contender.ts'

const message = z.object({ kind: z.string(), holds: z.array(z.number()).optional() })
type Worker = TestProcess<z.output<typeof message>>

const processes = 4
const forMs = 1_500

/** From one release to the next grant, under contention by few and by many waiters in four processes. */
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
      const few = await measure(workers.slice(0, 2), 1)
      const many = await measure(workers, 25)
      return { p50Us2: few.p50, p99Us2: few.p99, p50Us100: many.p50, p99Us100: many.p99, manyToFew: many.p50 / few.p50 }
    },
    async close(workers) {
      await Promise.all(workers.map((worker) => worker.kill()))
    },
  })

const measure = async (workers: readonly Worker[], waiters: number): Promise<{ p50: number; p99: number }> => {
  const answers = workers.map(async (worker) => {
    const known = worker.messages.length
    worker.send({ waiters, forMs })
    return worker.message((said) => said.kind === 'done' && worker.messages.indexOf(said) >= known, 60_000)
  })
  const grants = (await Promise.all(answers)).flatMap(({ holds }) => holds ?? []).toSorted((a, b) => a - b)
  const gaps = grants.slice(1).map((at, index) => at - (grants[index] ?? at))
  gaps.sort((a, b) => a - b)
  return {
    p50: gaps[Math.floor(gaps.length / 2)] ?? Number.NaN,
    p99: gaps[Math.floor(gaps.length * 0.99)] ?? Number.NaN,
  }
}
