import { eventually } from '@x/testkit'
import type { Client } from 'pg'

const pids = new WeakMap<Client, number>()

/** Notes the backend of a client while it is free to answer. */
const pidOf = (client: Client): number => {
  const known = pids.get(client) ?? Reflect.get(client, 'processID')
  if (typeof known !== 'number') throw new Error('expected a connected client')
  pids.set(client, known)
  return known
}

/** Resolves when the second client waits for a lock of the first. */
export const blocked = async (by: Client, waiting: Client): Promise<void> => {
  await eventually(
    async () => {
      const { rows } = await by.query('SELECT $1::int = ANY (pg_blocking_pids($2::int)) AS blocked', [
        pidOf(by),
        pidOf(waiting),
      ])
      return rows[0]?.blocked === true
    },
    { what: 'the second session to wait for the first' },
  )
}
