import type { Pool } from 'pg'
import { type ChangeHandler, createLeaderInput, type LeaderInput, type LeaderInputOptions } from '../../src/index.ts'

/** The tables of pgbench, as `pgbench -i` makes them. */
export interface Bank {
  pgbench_accounts: { aid: number; bid: number; abalance: number; filler: string | null }
  pgbench_tellers: { tid: number; bid: number; tbalance: number; filler: string | null }
  pgbench_branches: { bid: number; bbalance: number; filler: string | null }
  pgbench_history: { tid: number; bid: number; aid: number; delta: number; mtime: string; filler: string | null }
}

/** A balance twice: as the last change said, which goes wrong by inversion, and added up, which goes wrong by loss and doubling. */
export const balancesTable = `
  CREATE TABLE balances (kind text, id int, latest bigint NOT NULL, total bigint NOT NULL, changes bigint NOT NULL, PRIMARY KEY (kind, id));
  CREATE TABLE leaders (epoch bigint PRIMARY KEY)`

export const bankInput = (
  options: Pick<LeaderInputOptions<Bank>, 'pool' | 'locker' | 'takeoverMs'>,
): LeaderInput<Bank> =>
  createLeaderInput<Bank>({
    name: 'bank',
    tables: ['pgbench_accounts', 'pgbench_tellers', 'pgbench_branches', 'pgbench_history'],
    ...options,
  })

interface Balance {
  kind: string
  id: number
  latest: number
  total: number
  changes: number
  /** What was there before counts no more: the table was emptied. */
  afresh: boolean
}

/** What a change says of balances: whose, the new one, and by how much it differs. */
const saidBy = (
  event: Parameters<ChangeHandler<Bank>>[0][number],
): Pick<Balance, 'kind' | 'id' | 'latest' | 'total'> => {
  const { id, before, after } = event
  if (event.table === 'pgbench_history') {
    return { kind: event.table, id: 0, latest: 0, total: after && 'delta' in after ? after.delta : 0 }
  }
  const of = (row: typeof before): number => {
    if (row === null) return 0
    if ('abalance' in row) return row.abalance
    if ('tbalance' in row) return row.tbalance
    return 'bbalance' in row ? row.bbalance : 0
  }
  return { kind: event.table, id: Number(id), latest: of(after), total: of(after) - of(before) }
}

export const keepBalances: ChangeHandler<Bank> = async (events, { client, epoch }) => {
  const balances = new Map<string, Balance>()
  for (const event of events) {
    const { kind, id, latest, total } = saidBy(event)
    const known = balances.get(`${kind} ${id}`) ?? { kind, id, latest: 0, total: 0, changes: 0, afresh: false }
    const emptied = event.operation === 'truncate'
    balances.set(
      `${kind} ${id}`,
      emptied
        ? { ...known, latest: 0, total: 0, changes: 0, afresh: true }
        : { ...known, latest, total: known.total + total, changes: known.changes + 1 },
    )
  }
  await client.query(
    `INSERT INTO balances AS b (kind, id, latest, total, changes)
     SELECT kind, id, latest, total, changes FROM jsonb_to_recordset($1) AS e (kind text, id int, latest bigint, total bigint, changes bigint)
     ON CONFLICT (kind, id) DO UPDATE SET latest = excluded.latest,
       total = excluded.total + CASE WHEN excluded.kind = ANY ($2) THEN 0 ELSE b.total END,
       changes = excluded.changes + CASE WHEN excluded.kind = ANY ($2) THEN 0 ELSE b.changes END`,
    [
      JSON.stringify([...balances.values()]),
      [...balances.values()].filter(({ afresh }) => afresh).map(({ kind }) => kind),
    ],
  )
  await client.query('INSERT INTO leaders VALUES ($1) ON CONFLICT DO NOTHING', [epoch.toString()])
}

const wrong = `
    SELECT kind, id, balance, latest, total
      FROM (SELECT 'pgbench_accounts' AS kind, aid AS id, abalance AS balance FROM pgbench_accounts
            UNION ALL SELECT 'pgbench_tellers', tid, tbalance FROM pgbench_tellers
            UNION ALL SELECT 'pgbench_branches', bid, bbalance FROM pgbench_branches) t
      FULL JOIN (SELECT * FROM balances WHERE kind <> 'pgbench_history') b USING (kind, id)
     WHERE (coalesce(latest, 0), coalesce(total, 0)) IS DISTINCT FROM (balance, balance)
    UNION ALL
    SELECT 'pgbench_history', 0, h.total, b.changes, b.total
      FROM (SELECT count(*) AS changes, coalesce(sum(delta), 0) AS total FROM pgbench_history) h
      FULL JOIN (SELECT * FROM balances WHERE kind = 'pgbench_history') b ON true
     WHERE (h.changes, h.total) IS DISTINCT FROM (b.changes, b.total)`

/** Where the balances that the handler keeps differ from the tables, at most a few. */
export const wrongBalances = async (pool: Pool): Promise<unknown[]> => {
  const { rows } = await pool.query(`${wrong} LIMIT 5`)
  return rows
}

/** What tells a change that was lost from one that is still to come or was never captured, when balances are wrong. */
export const bankEvidence = async (pool: Pool): Promise<string> => {
  const { rows } = await pool.query(`
    WITH wrong AS MATERIALIZED (${wrong})
    SELECT (SELECT json_object_agg(kind, n) FROM (SELECT kind, count(*) AS n FROM wrong GROUP BY kind) k) AS wrong,
           (SELECT json_agg(c) FROM coordination.cursors c) AS cursors,
           (SELECT json_agg(epoch::text ORDER BY epoch) FROM leaders) AS leaders,
           (SELECT count(*) FROM coordination.changes) AS logged,
           (SELECT json_agg(l) FROM (
              SELECT l.seq::text, l.xid::text, l.source[0], l.operation, l.before, l.after, l.at FROM coordination.changes l
              JOIN wrong w ON l.source[0] = 'public.' || w.kind AND coalesce(l.after, l.before) ->> l.source[1] = w.id::text
              ORDER BY l.seq LIMIT 20) l) AS log`)
  return JSON.stringify(rows[0])
}
