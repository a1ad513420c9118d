/**
 * A process that changes rows and notes each change in the same transaction. The revision of a row counts under a lock
 * of its own, so that its order is the order of the commits, through deletes and new inserts too.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { randomSource, tell } from '@x/testkit'
import { Client } from 'pg'
import { z } from 'zod'
import { runActor } from './actor.ts'

const { url, processName, seed } = z
  .object({ url: z.string(), processName: z.string(), seed: z.number() })
  .parse(JSON.parse(process.argv[2] ?? ''))

const random = randomSource(seed).fork(processName)
let finishing = false

const connect = async (): Promise<Client> => {
  const client = new Client({
    ...{ connectionString: url, application_name: processName, connectionTimeoutMillis: 2_000, query_timeout: 4_000 },
    // A writer whose line is dead must not keep its rows locked for the rest of the run.
    idle_in_transaction_session_timeout: 2_000,
  })
  client.on('error', () => {})
  await client.connect()
  return client
}

const changeOne = async (client: Client): Promise<void> => {
  const table = random.pick(['items', 'parts'] as const)
  const id = random.int(1, 15)
  const { rows } = await client.query(
    'UPDATE revisions SET revision = revision + 1 WHERE source = $1 AND id = $2 RETURNING revision, present',
    [table, id],
  )
  const { revision, present } = z.object({ revision: z.number(), present: z.boolean() }).parse(rows[0])
  const removes = present && random.chance(0.25)
  const note = 'x'.repeat(random.int(0, 200))
  if (!present)
    await client.query(`INSERT INTO ${table} (id, revision, note) VALUES ($1, $2, $3)`, [id, revision, note])
  else if (removes) await client.query(`DELETE FROM ${table} WHERE id = $1`, [id])
  else await client.query(`UPDATE ${table} SET revision = $2, note = $3 WHERE id = $1`, [id, revision, note])
  await client.query('UPDATE revisions SET present = $3 WHERE source = $1 AND id = $2', [table, id, !removes])
  await client.query('INSERT INTO changes_made (source, id, revision) VALUES ($1, $2, $3)', [table, id, revision])
}

const transaction = async (client: Client): Promise<void> => {
  await client.query('BEGIN')
  for (let change = random.int(1, 4); change > 0; change -= 1) {
    const undone = random.chance(0.1)
    if (undone) await client.query('SAVEPOINT undone')
    await changeOne(client)
    if (undone) await client.query('ROLLBACK TO undone')
  }
  // Late commits are what a feed ordered by numbers loses.
  if (random.chance(0.1)) await delay(random.int(50, 600))
  await client.query(random.chance(0.15) ? 'ROLLBACK' : 'COMMIT')
}

const write = async (): Promise<void> => {
  while (!finishing) {
    let client: Client | null = null
    try {
      client = await connect()
      while (!finishing) {
        await transaction(client)
        tell({ type: 'worked' })
        await delay(random.int(0, 30))
      }
    } catch {
      // Deadlocks, cut lines, restarts: the writer is not what is tested.
      await delay(100)
    }
    client?.connection.stream.destroy()
  }
}

let writing: Promise<void> = Promise.resolve()
await runActor(
  async () => {
    writing = write()
  },
  {
    'the transaction': () => {
      finishing = true
      return writing
    },
  },
)
