/** A replica that campaigns to lead the input and notes every change it handles in the handler's transaction. */
import { setTimeout as delay } from 'node:timers/promises'
import { createLeaderInput } from '@x/leader-input'
import { createTableLocker } from '@x/lock-table'
import { randomSource, tell } from '@x/testkit'
import { z } from 'zod'
import { runActor, tellFailure } from './actor.ts'

const { url, processName, seed, ttlMs } = z
  .object({ url: z.string(), processName: z.string(), seed: z.number(), ttlMs: z.number() })
  .parse(JSON.parse(process.argv[2] ?? ''))

interface Row {
  id: number
  revision: number
  note: string
}
interface Tables {
  items: Row
  parts: Row
}

const random = randomSource(seed).fork(processName)
const locker = createTableLocker({ connectionString: url, ttlMs, acquirer: { name: processName } })
const input = createLeaderInput<Tables>({
  ...{ connectionString: url, locker, name: 'campaign', batchSize: 20 },
  tables: ['items', 'parts'],
})

/** Every replica installs when it starts, as services do: all at once, and while the database is away. */
const install = async (over: AbortSignal): Promise<void> => {
  while (!over.aborted) {
    try {
      await input.install()
      return
    } catch (error) {
      tellFailure('install', error)
      await delay(100)
    }
  }
}

let running: Promise<void> = Promise.resolve()
await runActor(
  async (over) => {
    await install(over)
    running = input
      .run(
        async (events, { client, epoch }) => {
          for (const { table, id, operation, before, after } of events) {
            // The revision of a delete is one more than that of the row that it removed.
            const revision = operation === 'delete' ? (before?.revision ?? 0) + 1 : after?.revision
            await client.query(
              'INSERT INTO effects (source, id, revision, epoch, handler) VALUES ($1, $2, $3, $4, $5)',
              [table, id, revision, String(epoch), processName],
            )
          }
          if (random.chance(0.1)) await delay(random.int(1, 100))
          tell({ type: 'worked' })
        },
        { signal: over },
      )
      .catch((error: unknown) => tellFailure('run', error))
  },
  {
    'run()': () => running,
    'input.close()': () => input.close(),
    'locker.close()': () => locker.close(),
  },
)
