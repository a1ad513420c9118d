import type { PgPool } from '@x/lock-core'
import type { Pool } from 'pg'

/** A pool whose statements go through `pass` on their way: it knows the name of each, and sends it. */
export const watchedPool = (
  pool: Pool,
  pass: (name: string | undefined, send: () => Promise<unknown>) => Promise<unknown>,
): PgPool => {
  const seen = new WeakSet<object>()
  return {
    options: pool.options,
    async connect() {
      const client = await pool.connect()
      if (!seen.has(client)) {
        seen.add(client)
        const query = client.query.bind(client) as (...args: unknown[]) => Promise<unknown>
        Reflect.set(client, 'query', (config: { readonly name?: string }, ...rest: unknown[]) =>
          pass(config.name, () => query(config, ...rest)),
        )
      }
      return client
    },
  }
}
