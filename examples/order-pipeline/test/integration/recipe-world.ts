/**
 * What the recipes of `docs/choosing-a-lock.md` take for granted: a database and the functions of the reader's own
 * application. Each function prints what it was asked to do, so that a test can see the recipe work.
 */

import type { Locker } from '@x/lock-core'
import { createTableLocker } from '@x/lock-table'
import { Kysely, PostgresDialect, type Transaction } from 'kysely'
import { Pool } from 'pg'

declare global {
  interface Database {
    orders: { id: number; state: string }
  }
  var pool: Pool
  var locker: Locker
  var db: Kysely<Database>
  var order: { id: number }
  var id: string
  var file: string
  var address: string
  var payments: { charge(order: { id: number }, options: { idempotencyKey: string }): Promise<void> }
  var accounts: () => Promise<string[]>
  var report: (account: string) => Promise<void>
  var dispatch: (options: { signal: AbortSignal; token: bigint | null }) => Promise<void>
  var importFile: (file: string, options: { signal: AbortSignal }) => Promise<void>
  var removeFromRing: (node: { name: string }) => void
  var updateTotals: (trx: Transaction<Database>, event: { operation: string; id: string | null }) => Promise<void>
}

const shared = new Pool({ connectionString: process.env.RECIPE_URL, application_name: 'recipe' })

Object.assign(globalThis, {
  pool: shared,
  locker: createTableLocker({ pool: shared }),
  db: new Kysely<Database>({ dialect: new PostgresDialect({ pool: shared }) }),
  order: { id: 1 },
  id: '7',
  file: 'customers.csv',
  address: '10.0.0.1:7000',
  payments: {
    charge: async ({ id: charged }: { id: number }, options: { idempotencyKey: string }) =>
      console.log(`charged order ${charged} under ${options.idempotencyKey}`),
  },
  accounts: async () => ['a', 'b'],
  report: async (account: string) => console.log(`reported ${account}`),
  dispatch: async (options: { token: bigint | null }) => console.log(`dispatching under token ${options.token}`),
  importFile: async (name: string) => console.log(`imported ${name}`),
  removeFromRing: (node: { name: string }) => console.log(`removed ${node.name}`),
  updateTotals: async (_: Transaction<Database>, event: { operation: string; id: string | null }) =>
    console.log(`${event.operation} of order ${event.id}`),
})
