import type { ClientBase } from 'pg'
import type { Change } from './report.ts'

/** Sells: each call changes the table as an ordinary application does, and tells what it has committed. */
export const createSeller = (client: ClientBase) => {
  const made: Change[] = []
  const note = (rows: readonly { id: string; revision: number }[], more = 0): void => {
    for (const { id, revision } of rows) made.push({ sale: id, revision: revision + more })
  }
  return {
    /** Committed changes, in the order in which they were made. */
    changes: made as readonly Change[],
    async sell(count = 1): Promise<void> {
      const { rows } = await client.query(
        `INSERT INTO sales (customer, cents) SELECT 'customer ' || n, 100 * n FROM generate_series(1, $1) n RETURNING id, revision`,
        [count],
      )
      note(rows)
    },
    /** Changes the price of a sale; of the newest one if there is no such id. */
    async correct(id: number): Promise<void> {
      const { rows } = await client.query(
        'UPDATE sales SET cents = cents + 1, revision = revision + 1 WHERE id = (SELECT max(id) FROM sales WHERE id <= $1) RETURNING id, revision',
        [id],
      )
      note(rows)
    },
    async refund(id: number): Promise<void> {
      const { rows } = await client.query('DELETE FROM sales WHERE id = $1 RETURNING id, revision', [id])
      note(rows, 1)
    },
  }
}
