import type { ClientBase } from 'pg'

// Each statement makes a change and writes it into the journal: one statement, so neither is there without the other.
const placeSql = `
  WITH placed AS (
    INSERT INTO orders (customer, cents) SELECT customer, $2::int FROM unnest($1::int[]) AS customer
    RETURNING id, revision, customer, cents)
  INSERT INTO journal (order_id, revision, operation, customer, cents)
  SELECT id, revision, 'create', customer, cents FROM placed
  RETURNING order_id`
const changeSql = `
  WITH changed AS (
    UPDATE orders SET cents = $2, customer = coalesce($3, customer), revision = revision + 1
    WHERE id IN (SELECT id FROM orders WHERE id >= $1 ORDER BY id LIMIT $4 FOR UPDATE)
    RETURNING id, revision, customer, cents)
  INSERT INTO journal (order_id, revision, operation, customer, cents)
  SELECT id, revision, 'update', customer, cents FROM changed`
const cancelSql = `
  WITH cancelled AS (
    DELETE FROM orders WHERE id = (SELECT id FROM orders WHERE id >= $1 ORDER BY id LIMIT 1)
    RETURNING id, revision, customer, cents)
  INSERT INTO journal (order_id, revision, operation, customer, cents)
  SELECT id, revision + 1, 'delete', customer, cents FROM cancelled`

const customers = 100
const below = (limit: number): number => Math.floor(Math.random() * limit)
const price = (): number => 100 + below(10_000)

/** The newest order that any connection of this process placed. */
let newest = 1

/** Often one of the newest orders, which other connections are changing at this moment; else any. */
const someOrder = (): number => (below(3) === 0 ? Math.max(1, newest - below(10)) : 1 + below(newest))

/** Writes orders through one connection, inside the transaction that its caller opened. */
export interface OrderWriter {
  /** Changes made so far, those that were rolled back included. */
  readonly changes: number
  /** Places orders of random customers; the id of the first. */
  place(count?: number): Promise<number>
  /** Changes the price of this order and those after it, and now and then the customer. */
  change(order?: number, count?: number): Promise<void>
  cancel(order?: number): Promise<void>
  /** Runs `work` and takes it back. */
  undo(work: () => Promise<void>): Promise<void>
}

export const createOrderWriter = (client: ClientBase): OrderWriter => {
  let changes = 0
  const write = async (sql: string, values: unknown[]): Promise<number> => {
    const { rows, rowCount } = await client.query<{ order_id?: string }>(sql, values)
    changes += rowCount ?? 0
    return Number(rows[0]?.order_id)
  }
  return {
    get changes() {
      return changes
    },
    async place(count = 1 + below(5)) {
      const order = await write(placeSql, [Array.from({ length: count }, () => below(customers)), price()])
      newest = Math.max(newest, order)
      return order
    },
    async change(order = someOrder(), count = 1) {
      await write(changeSql, [order, price(), below(4) === 0 ? below(customers) : null, count])
    },
    async cancel(order = someOrder()) {
      await write(cancelSql, [order])
    },
    async undo(work) {
      await client.query('SAVEPOINT half')
      await work()
      await client.query('ROLLBACK TO SAVEPOINT half')
    },
  }
}
