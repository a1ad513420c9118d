/**
 * The ordinary application, a process of its own: several connections that place, change and cancel orders all at once.
 * It knows nothing of the pipeline; it only keeps its journal.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { Client } from 'pg'
import { loadSettings } from './messages.ts'
import { createOrderWriter } from './order-writer.ts'
import { followParent } from './parent.ts'
import { drawTransaction } from './transactions.ts'

using parent = followParent(loadSettings)
const { url, rate, connections } = parent.settings
const counts = { committed: 0, rolledBack: 0, rolledBackToSavepoint: 0, long: 0 }

const isDeadlock = (error: unknown): boolean => error instanceof Error && 'code' in error && error.code === '40P01'

const write = async (): Promise<void> => {
  const client = new Client({ connectionString: url, application_name: 'order-pipeline/load' })
  await client.connect()
  const orders = createOrderWriter(client)

  const runTransaction = async (): Promise<void> => {
    const { kind, run } = drawTransaction(Math.random())
    await client.query('BEGIN')
    try {
      await run(orders, parent.stop)
      await client.query(kind === 'rollback' ? 'ROLLBACK' : 'COMMIT')
      counts[kind === 'rollback' ? 'rolledBack' : 'committed'] += 1
      if (kind === 'savepoint') counts.rolledBackToSavepoint += 1
      if (kind === 'long') counts.long += 1
    } catch (error) {
      // Two connections may change the same orders in different sequence: an ordinary application rolls back.
      if (!isDeadlock(error)) throw error
      await client.query('ROLLBACK')
      counts.rolledBack += 1
    }
  }

  const msPerChange = (1_000 * connections) / rate
  let next = performance.now() + Math.random() * msPerChange
  while (!parent.stop.aborted) {
    await delay(Math.max(0, next - performance.now()), undefined, { signal: parent.stop }).catch(() => {})
    const before = orders.changes
    await runTransaction()
    // Late by more than a second (a long transaction, a slow machine): do not make up for it in one burst.
    next = Math.max(next + Math.max(1, orders.changes - before) * msPerChange, performance.now() - 1_000)
  }
  await client.end()
}

const report = setInterval(() => parent.tell({ type: 'load', ...counts }), 250)
await Promise.all(Array.from({ length: connections }, write))
clearInterval(report)
parent.tell({ type: 'load', ...counts })
