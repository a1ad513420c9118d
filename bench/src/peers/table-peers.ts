import { randomUUID } from 'node:crypto'
import { createTableLocker } from '@x/lock-table'
import { Client, Pool } from 'pg'
import type { OpenPairMaker } from './pair.ts'

/** The least that a lease in a table is: an owner and an end. The statements below are the floor and the hand-written peer. */
const table = `CREATE TABLE IF NOT EXISTS bench_locks (
  key text PRIMARY KEY, owner text, expires_at timestamptz NOT NULL) WITH (fillfactor = 50)`
const grant = {
  name: 'bench_grant',
  text: `INSERT INTO bench_locks AS l (key, owner, expires_at)
         VALUES ($1, $2, clock_timestamp() + interval '30 s')
         ON CONFLICT (key) DO UPDATE SET owner = excluded.owner, expires_at = excluded.expires_at
         WHERE l.owner IS NULL OR l.expires_at <= clock_timestamp()
         RETURNING l.key`,
}
const release = {
  name: 'bench_release',
  text: 'UPDATE bench_locks SET owner = NULL WHERE key = $1 AND owner = $2',
}
/** Answered before it is on disk, as our plain release is. */
const unflushedRelease = {
  name: 'bench_unflushed_release',
  text: `UPDATE bench_locks SET owner = NULL
         WHERE key = $1 AND owner = $2 AND set_config('synchronous_commit', 'off', true) = 'off'`,
}

const onOneConnection =
  (end: typeof release): OpenPairMaker =>
  async ({ url }) => {
    const client = new Client({ connectionString: url })
    await client.connect()
    await client.query(table)
    return {
      async pair(key) {
        const owner = randomUUID()
        await client.query({ ...grant, values: [key, owner] })
        await client.query({ ...end, values: [key, owner] })
      },
      close: () => client.end(),
    }
  }

const throughPool =
  (end: typeof release): OpenPairMaker =>
  async ({ url }) => {
    const pool = new Pool({ connectionString: url, max: 10 })
    await pool.query(table)
    return {
      async pair(key) {
        const owner = randomUUID()
        await pool.query({ ...grant, values: [key, owner] })
        await pool.query({ ...end, values: [key, owner] })
      },
      close: () => pool.end(),
    }
  }

/** The floor: an upsert and an update, durable, named, on one connection. */
export const bareLease: OpenPairMaker = onOneConnection(release)
/** The same with a release that does not wait for the disk: both sides then pay for one flush. */
export const bareLeaseUnflushed: OpenPairMaker = onOneConnection(unflushedRelease)

/** What a team writes by hand: the same two statements for each lock, through a pool of 10. */
export const handWrittenLease: OpenPairMaker = throughPool(release)
/** The same by a team that knows that a release need not wait for the disk. */
export const handWrittenLeaseUnflushed: OpenPairMaker = throughPool(unflushedRelease)

/** `@x/lock-table` as a user calls it, on a pool of 10. */
export const ourLease: OpenPairMaker = async ({ url }) => {
  const pool = new Pool({ connectionString: url, max: 10 })
  const locker = createTableLocker({ pool })
  return {
    async pair(key) {
      const lock = await locker.acquire(key)
      await lock.release()
    },
    async close() {
      await locker.close()
      await pool.end()
    },
  }
}

type Queries = Pick<Client, 'query' | 'end'>

const hold = {
  name: 'bench_hold',
  text: `INSERT INTO bench_locks (key, owner, expires_at) VALUES ($1, 'another', clock_timestamp() + interval '1 h')
         ON CONFLICT (key) DO UPDATE SET owner = excluded.owner, expires_at = excluded.expires_at`,
}
const read = {
  name: 'bench_read',
  text: 'SELECT owner, expires_at > clock_timestamp() FROM bench_locks WHERE key = $1',
}

/** One read of a row that another owner holds: without the row it would be the cheaper read of nothing. */
const heldRead =
  (open: (url: string) => Promise<Queries>): OpenPairMaker =>
  async ({ url }) => {
    const queries = await open(url)
    await queries.query(table)
    const held = new Set<string>()
    return {
      async pair(key) {
        if (!held.has(key)) {
          await queries.query({ ...hold, values: [key] })
          held.add(key)
        }
        const { rows } = await queries.query({ ...read, values: [key] })
        if (rows.length !== 1) throw new Error(`expected the row of ${key}, got ${rows.length} rows`)
      },
      close: () => queries.end(),
    }
  }

/** The floor of a contended try: one read of the row by its key. */
export const bareRead: OpenPairMaker = heldRead(async (url) => {
  const client = new Client({ connectionString: url })
  await client.connect()
  return client
})

/** The same through a pool, which is what a locker is given. */
export const pooledRead: OpenPairMaker = heldRead(async (url) => new Pool({ connectionString: url, max: 10 }))

/** A try for a key that another locker holds: it must fail, and write nothing. */
export const ourContendedTry: OpenPairMaker = async ({ url }) => {
  const pool = new Pool({ connectionString: url, max: 10 })
  const [holder, locker] = [createTableLocker({ pool }), createTableLocker({ pool })]
  const held = new Set<string>()
  return {
    async pair(key) {
      if (!held.has(key)) {
        await holder.acquire(key)
        held.add(key)
      }
      if ((await locker.tryAcquire(key)) !== null) throw new Error(`expected ${key} to be held`)
    },
    async close() {
      await locker.close()
      await holder.close()
      await pool.end()
    },
  }
}
