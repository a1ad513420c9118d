import { expect, it } from 'vitest'
import { Cadence } from '../../src/cadence.ts'
import { ManualClock } from '../manual-clock.ts'

const make = (options: { jitter?: number; overlap?: number; run?: () => Promise<void> } = {}) => {
  const clock = new ManualClock()
  const runs: number[] = []
  let random = 0.5
  const cadence = new Cadence(100, {
    clock,
    jitter: options.jitter ?? 0,
    random: () => random,
    ...(options.overlap === undefined ? {} : { overlap: options.overlap }),
    run: () => {
      runs.push(clock.now())
      return options.run?.() ?? Promise.resolve()
    },
  })
  return { clock, runs, cadence, setRandom: (value: number) => (random = value) }
}

it('runs again and again, within the jitter', async () => {
  const { clock, runs, cadence, setRandom } = make({ jitter: 0.2 })
  cadence.start(0)
  await clock.pass(1)
  setRandom(0)
  await clock.pass(99)
  setRandom(1)
  await clock.pass(80)
  await clock.pass(120)
  expect(runs).toEqual([0, 100, 180, 300])
})

it('does not run while it runs, and catches up once afterwards', async () => {
  const gate = Promise.withResolvers<void>()
  const { clock, runs, cadence } = make({ run: () => gate.promise })
  cadence.start(0)
  await clock.pass(350)
  expect(runs).toEqual([0])
  gate.resolve()
  await clock.pass(1)
  expect(runs).toEqual([0, 350])
})

it('lets as many runs overlap as it may', async () => {
  const gate = Promise.withResolvers<void>()
  const { clock, runs, cadence } = make({ overlap: 2, run: () => gate.promise })
  cadence.start(0)
  await clock.pass(350)
  expect(runs).toEqual([0, 100])
  gate.resolve()
  await clock.pass(1)
  await cadence.stop()
})

it('runs sooner when asked, and begins the interval anew', async () => {
  const { clock, runs, cadence } = make()
  cadence.start()
  await clock.pass(30)
  cadence.soon(10)
  cadence.soon(90)
  await clock.pass(200)
  expect(runs).toEqual([40, 140])
})

it('does nothing after stop, which waits for what runs', async () => {
  const gate = Promise.withResolvers<void>()
  const { clock, runs, cadence } = make({ run: () => gate.promise })
  cadence.start(0)
  await clock.pass(1)
  let stopped = false
  const stopping = cadence.stop().then(() => {
    stopped = true
  })
  cadence.soon()
  await clock.pass(500)
  expect([stopped, runs.length, clock.scheduled]).toEqual([false, 1, 0])
  gate.resolve()
  await stopping
  expect(clock.scheduled).toBe(0)
})
