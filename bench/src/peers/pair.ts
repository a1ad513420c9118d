import type { Contender, Figures } from '../benchmark.ts'
import { contender } from '../contender.ts'
import { latency, throughput } from '../measure.ts'
import type { Surroundings } from '../surroundings.ts'

/** One way to take a lock and give it back: what every contender of a lock row does. */
interface PairMaker {
  pair(key: string): Promise<void>
  close(): Promise<void>
}
export type OpenPairMaker = (surroundings: Surroundings) => Promise<PairMaker>

/** One caller, `count` pairs one after the other on changing keys. */
export const oneCaller = (open: OpenPairMaker, count: number): Contender =>
  contender({
    open,
    round: (maker) => latency(count, (index) => maker.pair(`bench/${index % 100}`)),
    close: (maker) => maker.close(),
  })

/** `callers` at once, each with a key of its own, `times` over. */
export const manyCallers = (open: OpenPairMaker, callers: number, times: number): Contender =>
  contender({
    open,
    async round(maker): Promise<Figures> {
      return throughput(callers * times, async () => {
        for (let time = 0; time < times; time += 1) {
          await Promise.all(Array.from({ length: callers }, (_, index) => maker.pair(`bench/${index}`)))
        }
      })
    },
    close: (maker) => maker.close(),
  })
