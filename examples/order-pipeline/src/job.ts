import { setTimeout as delay } from 'node:timers/promises'
import { checkFence } from '@x/lock-advisory'
import { type Lock, type Locker, tryWithLock } from '@x/lock-core'
import { type Kysely, sql, type Transaction } from 'kysely'
import type { Shop } from './shop.ts'

const jobKey = 'count the books'
const workMs = 250
const tickMs = 50

/** Runs `write` in a transaction that commits only as long as no later holder of the lock has done the same. */
const fenced = <T>(
  db: Kysely<Shop>,
  lock: Lock,
  write: (trx: Transaction<Shop>, token: bigint) => Promise<T>,
): Promise<T> =>
  db.transaction().execute(async (trx) => {
    const token = lock.fencingToken
    if (token === null) throw new Error('expected a fencing token: the advisory locker needs its migration')
    await checkFence(trx, { resource: jobKey, token })
    return write(trx, token)
  })

/** Counts the books once, and says so in `job_runs`; its result is committed together with its end. */
const countTheBooks = async (db: Kysely<Shop>, node: string, lock: Lock): Promise<void> => {
  const { id } = await fenced(db, lock, (trx, token) =>
    trx.insertInto('job_runs').values({ node, token }).returning('id').executeTakeFirstOrThrow(),
  )
  for (let worked = 0; worked < workMs; worked += tickMs) {
    await delay(tickMs, undefined, { signal: lock.signal }).catch(() => {})
    lock.assertHeld() // throws LockLostError: also after this process was stopped, before it touches anything
    await db.updateTable('job_runs').set({ seen_at: sql`clock_timestamp()` }).where('id', '=', id).execute()
  }
  await fenced(db, lock, (trx) =>
    trx
      .updateTable('job_runs')
      .set({
        ended_at: sql`clock_timestamp()`,
        orders: (eb) => eb.selectFrom('orders').select(eb.fn.countAll<string>().as('count')),
      })
      .where('id', '=', id)
      .execute(),
  )
}

/**
 * The job that must never run twice at once: whichever replica gets the lock runs it, the others go on. The lock makes a
 * second run rare; the fence makes it harmless in the one case that no session lock can exclude, when the server ends
 * the session and the next holder is faster than the news.
 *
 * @returns whether this replica ran it
 */
export const runJob = async (locker: Locker, db: Kysely<Shop>, node: string): Promise<boolean> => {
  const { acquired } = await tryWithLock(locker, jobKey, {}, (lock) => countTheBooks(db, node, lock))
  return acquired
}
