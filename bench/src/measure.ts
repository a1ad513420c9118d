import { createHistogram } from 'node:perf_hooks'
import type { Figures } from './benchmark.ts'

const microseconds = (nanoseconds: number): number => nanoseconds / 1_000

/**
 * The latency of `work`, one call after the other, until `count` calls are done.
 * @returns `p50Us`, `p99Us`, `maxUs` (microseconds) and `perSecond`.
 */
export const latency = async (count: number, work: (index: number) => Promise<unknown>): Promise<Figures> => {
  const histogram = createHistogram()
  const start = process.hrtime.bigint()
  for (let index = 0; index < count; index += 1) {
    const before = process.hrtime.bigint()
    await work(index)
    histogram.record(process.hrtime.bigint() - before)
  }
  const seconds = Number(process.hrtime.bigint() - start) / 1e9
  return {
    p50Us: microseconds(histogram.percentile(50)),
    p99Us: microseconds(histogram.percentile(99)),
    maxUs: microseconds(histogram.max),
    perSecond: count / seconds,
  }
}

/** The distribution of durations that were measured elsewhere (in another process, across a hand-off), in milliseconds. */
export const distribution = (milliseconds: readonly number[]): Figures => {
  const histogram = createHistogram()
  for (const value of milliseconds) histogram.record(Math.max(1, Math.round(value * 1e6)))
  return {
    p50Us: microseconds(histogram.percentile(50)),
    p99Us: microseconds(histogram.percentile(99)),
    maxUs: microseconds(histogram.max),
    samples: milliseconds.length,
  }
}

/** How many units of work a second `work` did, given how many units one call does. */
export const throughput = async (units: number, work: () => Promise<unknown>): Promise<Figures> => {
  const start = process.hrtime.bigint()
  await work()
  const seconds = Number(process.hrtime.bigint() - start) / 1e9
  return { perSecond: units / seconds, totalMs: seconds * 1_000 }
}
