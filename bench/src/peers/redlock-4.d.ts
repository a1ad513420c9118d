/** The part of redlock 4 that the benchmarks use; its published types describe an older client than it calls. */
declare module 'redlock' {
  import type { Redis } from 'ioredis'

  export default class Redlock {
    constructor(clients: readonly Redis[], options?: { retryCount?: number })
    lock(resource: string, ttlMs: number): Promise<{ unlock(): Promise<void>; extend(ttlMs: number): Promise<unknown> }>
  }
}
