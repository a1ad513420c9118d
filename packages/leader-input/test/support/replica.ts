/** A replica of the fault tests, a process of its own: leads the input when it can, and keeps evidence of what it handles. */

import { createAdvisoryLocker } from '@x/lock-advisory'
import type { Locker } from '@x/lock-core'
import { createMemoryLocker } from '@x/lock-core/memory'
import { createTableLocker } from '@x/lock-table'
import { tell } from '@x/testkit'
import { Pool } from 'pg'
import { bankInput, keepBalances } from './bank.ts'
import { itemsInput, keepEvidence } from './evidence.ts'

const [url = '', kind = 'table', name = 'replica', workload = 'items'] = process.argv.slice(2)
const pool = new Pool({ connectionString: url, max: 6, application_name: name })
pool.on('error', () => {})

/** A memory locker of its own for each process grants everyone. */
const lockers: Record<string, () => Locker> = {
  table: () => createTableLocker({ pool, ttlMs: 1_500 }),
  advisory: () => createAdvisoryLocker({ connectionString: url, wait: 'server', detectMs: 1_000 }),
  everyone: () => createMemoryLocker(),
}
const locker = lockers[kind]?.()
if (locker === undefined) throw new Error(`no locker ${kind}`)
const start = {
  items: () => {
    const input = itemsInput({ pool, locker, takeoverMs: 1_500 })
    return { input, running: input.run(keepEvidence) }
  },
  /** The server's own timeout for what is left open comes too late to be of help: who holds the cursor has to be ended. */
  'patient-items': () => {
    const input = itemsInput({ pool, locker, takeoverMs: 1_500, handlerTimeoutMs: 600_000 })
    return { input, running: input.run(keepEvidence) }
  },
  backfill: () => {
    const input = itemsInput({ pool, locker, takeoverMs: 1_500, backfill: { chunkSize: 100 } })
    return { input, running: input.run(keepEvidence) }
  },
  'large-items': () => {
    const input = itemsInput({ pool, locker, takeoverMs: 1_500, batchSize: 100 })
    return { input, running: input.run(keepEvidence) }
  },
  bank: () => {
    const input = bankInput({ pool, locker, takeoverMs: 1_500 })
    return { input, running: input.run(keepBalances) }
  },
}[workload]
if (start === undefined) throw new Error(`no workload ${workload}`)
const { input, running } = start()
let last = ''
setInterval(() => {
  const { status, epoch, lastError } = input.health()
  const now = JSON.stringify({ status, epoch: String(epoch), error: lastError === null ? null : String(lastError) })
  if (now !== last) tell(JSON.parse(now))
  last = now
}, 20)
await running
