import type { RandomSource } from '@x/testkit'
import type { Client, Pool } from 'pg'
import { migrate } from '../../src/migrations.ts'

/**
 * Random transactions over a table of items, and the truth about them: the writer notes each change in `journal`, in its
 * own transaction, while it holds a lock on the item, so that `ord` is the order of commits for each item.
 */
export const workloadTables = `
  CREATE TABLE items (id int PRIMARY KEY, rev int NOT NULL, pad text);
  CREATE TABLE journal (ord bigint GENERATED ALWAYS AS IDENTITY, item int NOT NULL, what text NOT NULL);
  CREATE TABLE effects (n bigint GENERATED ALWAYS AS IDENTITY, key text NOT NULL, item int NOT NULL, what text NOT NULL, epoch bigint NOT NULL)`

/** For databases that have these tables and the feed, and no locks. */
export const workloadTemplate = {
  name: 'leader-input-workload-only',
  prepare: async (pool: Pool): Promise<void> => {
    await migrate(pool)
    await pool.query(workloadTables)
  },
}

/** One change of one item, as both sides write it down. */
export const described = (operation: string, before: number | null, after: number | null): string =>
  `${operation} ${before ?? '-'}>${after ?? '-'}`

/** One transaction of one writer. Savepoints, rollbacks, upserts, deletes, changes of keys, several rows, pauses. */
export const randomTransaction = async (client: Client, random: RandomSource, items: number): Promise<void> => {
  const ids = [...new Set(Array.from({ length: random.int(1, 4) }, () => random.int(1, items)))].sort((a, b) => a - b)
  await client.query('BEGIN')
  for (const id of ids) await client.query('SELECT pg_advisory_xact_lock(4711, $1)', [id])
  for (const id of ids) {
    const savepoint = random.chance(0.3)
    if (savepoint) await client.query('SAVEPOINT s')
    await randomChange(client, random, id, ids)
    if (savepoint) await client.query(random.chance(0.4) ? 'ROLLBACK TO SAVEPOINT s' : 'RELEASE SAVEPOINT s')
    if (random.chance(0.05)) await client.query('SELECT pg_sleep(0.05)')
  }
  if (random.chance(0.02)) await client.query('SELECT pg_sleep(0.4)')
  await client.query(random.chance(0.15) ? 'ROLLBACK' : 'COMMIT')
}

const randomChange = async (
  client: Client,
  random: RandomSource,
  id: number,
  locked: readonly number[],
): Promise<void> => {
  const { rows } = await client.query<{ rev: number }>('SELECT rev FROM items WHERE id = $1', [id])
  const rev = rows[0]?.rev ?? null
  const note = (item: number, what: string) =>
    client.query('INSERT INTO journal (item, what) VALUES ($1, $2)', [item, what])
  const next = random.int(1, 1_000_000_000)
  if (rev === null || random.chance(0.3)) {
    await client.query(
      'INSERT INTO items (id, rev) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET rev = excluded.rev',
      [id, next],
    )
    await note(id, rev === null ? described('create', null, next) : described('update', rev, next))
    return
  }
  if (random.chance(0.2)) {
    await client.query('DELETE FROM items WHERE id = $1', [id])
    await note(id, described('delete', rev, null))
    return
  }
  const free = locked.find((other) => other !== id)
  if (free !== undefined && random.chance(0.2)) {
    const taken = await client.query('SELECT FROM items WHERE id = $1', [free])
    if (taken.rowCount === 0) {
      // The change of a key is an event of both items.
      await client.query('UPDATE items SET id = $2, rev = $3 WHERE id = $1', [id, free, next])
      await note(id, described('update', rev, next))
      await note(free, described('update', rev, next))
      return
    }
  }
  // Twice in one transaction, through one statement over several rows.
  await client.query('UPDATE items SET rev = $2 WHERE id = $1', [id, next])
  await note(id, described('update', rev, next))
  if (random.chance(0.3)) {
    await client.query('UPDATE items SET rev = rev + 1, pad = $2 WHERE id = $1', [id, 'x'.repeat(random.int(0, 3_000))])
    await note(id, described('update', next, next + 1))
  }
}

/** Changes of the kept evidence that differ from the truth, at most a few of each kind. */
export const differences = async (pool: Pool): Promise<string[]> => {
  const { rows } = await pool.query<{ item: number; truth: string[] | null; seen: string[] | null }>(`
    SELECT item, t.truth, e.seen
      FROM (SELECT item, array_agg(what ORDER BY ord) AS truth FROM journal GROUP BY item) t
      FULL JOIN (SELECT item, array_agg(what ORDER BY n) AS seen FROM effects GROUP BY item) e USING (item)
     WHERE t.truth IS DISTINCT FROM e.seen`)
  return rows.map(({ item, truth, seen }) => {
    const at = (truth ?? []).findIndex((what, i) => what !== seen?.[i])
    return `item ${item}: ${truth?.length ?? 0} changes, ${seen?.length ?? 0} effects; first difference at ${at}: expected ${truth?.slice(at, at + 4).join(' | ')}, got ${seen?.slice(at, at + 4).join(' | ')}`
  })
}

/** Everything that is committed has been handled. */
export const isCaughtUp = async (pool: Pool): Promise<boolean> => {
  const { rows } = await pool.query<{ journal: string; effects: string }>(
    'SELECT (SELECT count(*) FROM journal)::text AS journal, (SELECT count(*) FROM effects)::text AS effects',
  )
  return Number(rows[0]?.effects) >= Number(rows[0]?.journal)
}

/** What tells a feed that stands still from one that has lost changes: where it is, who holds what, and who waits. */
export const standstill = async (pool: Pool): Promise<string> => {
  const { rows } = await pool.query(`
    SELECT (SELECT json_agg(c) FROM coordination.cursors c) AS cursors,
           (SELECT json_agg(json_build_array(a.pid, a.application_name, a.state, a.wait_event, a.backend_xid, left(a.query, 90)))
              FROM pg_stat_activity a WHERE a.datname = current_database()) AS sessions,
           (SELECT json_agg(json_build_array(l.pid, l.mode, l.granted)) FROM pg_locks l WHERE l.locktype = 'advisory') AS locks,
           (SELECT count(*) FROM effects) AS effects, (SELECT count(*) FROM journal) AS journal`)
  return JSON.stringify(rows[0])
}
