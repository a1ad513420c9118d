import { z } from 'zod'
import { NotAvailable } from '../benchmark.ts'
import type { OpenPairMaker } from './pair.ts'

type Sql = { end(): Promise<void> }
type Acquired = { readonly ok: true; readonly lockId: string } | { readonly ok: false }

interface Backend {
  acquire(options: { key: string; ttlMs: number }): Promise<Acquired>
  release(options: { lockId: string }): Promise<{ readonly ok: boolean }>
}

const isFunction = (value: unknown): boolean => typeof value === 'function'
const driver = z.object({ default: z.custom<(url: string, options: { max: number }) => Sql>(isFunction) })
const library = z.object({
  setupSchema: z.custom<(sql: Sql) => Promise<void>>(isFunction),
  createPostgresBackend: z.custom<(sql: Sql) => Backend>(isFunction),
})

/** A module that is measured where somebody has installed it; not every registry carries it. */
const installed = async (name: string): Promise<unknown> => {
  try {
    return await import(name)
  } catch (cause) {
    throw new NotAvailable(`${name} is not installed: pnpm --filter @x/bench add syncguard postgres`, { cause })
  }
}

/** npm `syncguard` on Postgres, through the pool of 10 of the driver that it wants. Durable, with a fence for each lock. */
export const syncguard: OpenPairMaker = async ({ url }) => {
  const { default: postgres } = driver.parse(await installed('postgres'))
  const { setupSchema, createPostgresBackend } = library.parse(await installed('syncguard/postgres'))
  const sql = postgres(url, { max: 10 })
  await setupSchema(sql)
  const backend = createPostgresBackend(sql)
  return {
    async pair(key) {
      const lock = await backend.acquire({ key, ttlMs: 30_000 })
      if (!lock.ok) throw new Error(`expected ${key} to be free`)
      const { ok } = await backend.release({ lockId: lock.lockId })
      if (!ok) throw new Error(`expected ${key} to be released`)
    },
    close: () => sql.end(),
  }
}
