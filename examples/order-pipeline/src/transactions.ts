import { setTimeout as delay } from 'node:timers/promises'
import type { OrderWriter } from './order-writer.ts'

/** One way in which an application writes orders. */
export interface Transaction {
  readonly kind: 'plain' | 'long' | 'savepoint' | 'rollback'
  /** How often, among all. */
  readonly weight: number
  /** Writes within an open transaction. A `signal` that aborts cuts a pause short. */
  run(orders: OrderWriter, signal: AbortSignal): Promise<void>
}

export const transactions: readonly Transaction[] = [
  {
    kind: 'plain',
    weight: 30,
    run: async (orders) => void (await orders.place()),
  },
  {
    kind: 'plain',
    weight: 35,
    run: (orders) => orders.change(),
  },
  {
    kind: 'plain',
    weight: 14,
    run: (orders) => orders.cancel(),
  },
  {
    // Many rows in one statement.
    kind: 'plain',
    weight: 4,
    run: (orders) => orders.change(undefined, 20),
  },
  {
    // An order that begins, changes and ends within one transaction.
    kind: 'plain',
    weight: 5,
    async run(orders) {
      const order = await orders.place(1)
      await orders.change(order)
      await orders.cancel(order)
    },
  },
  {
    // Half of it undone: its numbers are drawn and never used.
    kind: 'savepoint',
    weight: 6,
    async run(orders) {
      const order = await orders.place(1)
      await orders.undo(async () => {
        await orders.place()
        await orders.change(order)
      })
      await orders.change(order)
    },
  },
  {
    // All of it undone.
    kind: 'rollback',
    weight: 6,
    async run(orders) {
      const order = await orders.place()
      await orders.change(order)
      await orders.cancel()
    },
  },
  {
    // Draws its numbers now and commits much later, while others commit around it.
    kind: 'long',
    weight: 1,
    async run(orders, signal) {
      const order = await orders.place(2)
      await delay(500 + Math.random() * 1_500, undefined, { signal }).catch(() => {})
      await orders.change(order)
    },
  },
]

/** Each transaction as often as its weight: drawing from this deck is drawing by weight. */
const deck = transactions.flatMap((transaction) => Array<Transaction>(transaction.weight).fill(transaction))

/** `random` is from 0 to less than 1. */
export const drawTransaction = (random: number): Transaction => {
  const transaction = deck[Math.floor(random * deck.length)]
  if (!transaction) throw new RangeError(`expected a number from 0 to less than 1, got ${random}`)
  return transaction
}
