/**
 * Microseconds on the machine's monotonic clock. Unlike `performance.now()` it has one origin for all processes, so
 * that what several of them saw can be put in order.
 */
export const monotonicMicros = (): number => Number(process.hrtime.bigint() / 1_000n)
