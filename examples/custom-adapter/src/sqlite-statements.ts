/** Everything this adapter says to SQLite, whose clock is one for all processes on the file, in whole milliseconds. */
const now = `(unixepoch('subsec') * 1000)`
const marginMs = 20 // by which a lease is taken over late: its holder counts fractions, and somebody may set the clock

export const schema: string = `
  PRAGMA journal_mode = WAL; PRAGMA busy_timeout = 5000;
  CREATE TABLE IF NOT EXISTS locks (key TEXT PRIMARY KEY, owner TEXT, token INTEGER NOT NULL, session TEXT,
    acquired_at REAL, expires_at REAL, metadata TEXT) STRICT;
  CREATE TABLE IF NOT EXISTS waiters (ticket INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT, alive_until REAL) STRICT;`

/** Grants a key that nobody has to the first who stands in line for it. The row stays, so that tokens only rise. */
export const grant: string = `
  INSERT INTO locks (key, owner, token, session, acquired_at, expires_at, metadata)
  SELECT :key, :owner, 1, :session, ${now}, ${now} + :ttlMs, :metadata
  WHERE NOT EXISTS (SELECT 1 FROM waiters WHERE key = :key AND ticket < :ticket AND alive_until > ${now})
  ON CONFLICT (key) DO UPDATE SET owner = excluded.owner, token = locks.token + 1, session = excluded.session,
    acquired_at = excluded.acquired_at, expires_at = excluded.expires_at, metadata = excluded.metadata
  WHERE locks.owner IS NULL OR locks.expires_at + ${marginMs} <= ${now} RETURNING token, acquired_at`

/** Extends a grant that is still ours: an expired one is lost, even if nobody took it. */
export const renew: string = `UPDATE locks SET expires_at = ${now} + :ttlMs
  WHERE key = :key AND owner = :owner AND expires_at > ${now} RETURNING key`

/** Ends a grant that is still ours; with keepMs the key stays taken for so long, by nobody. */
export const release: string = `UPDATE locks SET owner = iif(:keepMs > 0, '', NULL), expires_at = ${now} + :keepMs
  WHERE key = :key AND owner = :owner AND expires_at > ${now} RETURNING key`

export const enterLine: string = `INSERT INTO waiters (key, alive_until) VALUES (:key, ${now} + :aliveMs) RETURNING ticket`

/** A waiter that lapsed has lost its place: no row comes back, and it enters the line again. */
export const stayInLine: string = `UPDATE waiters SET alive_until = ${now} + :aliveMs
  WHERE ticket = :ticket AND alive_until > ${now} RETURNING ticket`

export const leaveLine: string = `DELETE FROM waiters WHERE ticket = :ticket OR alive_until <= ${now}`

export const status: string = `
  SELECT coalesce(owner IS NOT NULL AND expires_at > ${now}, 0) AS taken, locks.*,
    (SELECT count(*) FROM waiters WHERE key = wanted AND alive_until > ${now}) AS waiters
  FROM (SELECT :key AS wanted) LEFT JOIN locks ON key = wanted`
