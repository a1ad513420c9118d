import { createAdvisoryLocker } from '@x/lock-advisory'
import { commands, monotonicMicros, tell } from '@x/testkit'
import { Client } from 'pg'
import { z } from 'zod'

/** One of the processes of a hand-off benchmark: takes a key again and again, by so many waiters at once, and tells when. */
const command = z.object({ waiters: z.number(), forMs: z.number() })
const [url = '', way = 'bare', key = 'hand-off'] = process.argv.slice(2)

interface Waiter {
  /** Takes the key, calls `held` while it is held, and gives it back. */
  hold(held: () => unknown): Promise<void>
}

const bareWaiter = async (): Promise<Waiter & { end(): Promise<void> }> => {
  const client = new Client({ connectionString: url })
  await client.connect()
  const run = (name: string, text: string) => client.query({ name, text, values: ['42'] })
  return {
    async hold(held) {
      await run('lock', 'SELECT pg_advisory_lock($1)')
      held()
      await run('unlock', 'SELECT pg_advisory_unlock($1)')
    },
    end: () => client.end(),
  }
}

const locker =
  way === 'bare'
    ? null
    : createAdvisoryLocker({
        connectionString: url,
        wait: way === 'server' ? 'server' : 'notify',
        fencing: 'none',
        idleMs: 600_000,
      })
const oursWaiter: Waiter = {
  async hold(held) {
    const lock = await locker?.acquire(key)
    held()
    await lock?.release()
  },
}

const bare: Awaited<ReturnType<typeof bareWaiter>>[] = []
tell({ kind: 'ready' })
for await (const { waiters, forMs } of commands(command)) {
  while (way === 'bare' && bare.length < waiters) bare.push(await bareWaiter())
  const holds: [waiter: number, grantedAt: number][] = []
  const endsAt = performance.now() + forMs
  await Promise.all(
    Array.from({ length: waiters }, async (_, index) => {
      const waiter = locker === null ? bare[index] : oursWaiter
      while (performance.now() < endsAt) {
        // The release is sent in the same turn: one instant is the end of one hand-off and the beginning of the next.
        await waiter?.hold(() => holds.push([index, Number(monotonicMicros())]))
      }
    }),
  )
  tell({ kind: 'done', holds })
}
await Promise.all(bare.map((waiter) => waiter.end()))
await locker?.close()
