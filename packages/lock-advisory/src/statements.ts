import type { Statement } from '@x/pg-session'

/**
 * Every statement of this package that takes, gives or announces; what is asked about others stands in
 * server-statements.ts. On a session of ours the search_path is pg_catalog, so that no function of the same name in another
 * schema can come in between.
 *
 * Three rules hold in all of them:
 * - A lock function has to run exactly once for each id. The planner copies an expression only when it flattens a
 *   subquery, so each call stands in a MATERIALIZED step or is written once in an aggregate over `unnest`, where there is
 *   nothing to flatten (test/behaviour/one-call-per-id.test.ts).
 * - What must come after the locks stands in the target list above that step: it is projected when the step is over
 *   (test/behaviour/order-in-a-statement.test.ts).
 * - One shape, whatever the number of ids: each is prepared once for the life of a session. One id alone has a shape of its
 *   own where a single caller waits for it: arrays and their aggregates take longer to set up than the lock itself.
 */

/** Where fencing tokens come from, as SQL that draws one number; null for none. */
export type DrawToken = string | null

/** What one step of an exchange does; the numbers are part of the statement. */
export const step = {
  unlockExclusive: 0,
  unlockShared: 1,
  tryExclusive: 2,
  tryShared: 3,
  announce: 4,
  withdraw: 5,
} as const

/** One of the steps of an exchange. */
export type Step = (typeof step)[keyof typeof step]

/** The statements of one namespace. */
export interface LockStatements {
  readonly acquire: Statement
  readonly acquireOne: Statement
  readonly release: Statement
  readonly releaseOne: Statement
  readonly exchange: Statement
  readonly tryAll: Statement
  readonly block: Statement
  readonly blockShared: Statement
  readonly unlockIfHeld: Statement
  readonly withdrawIfAnnounced: Statement
}

/** The halves of an id are its address in the (int4, int4) space, where interest lives. One to one, and disjoint from the bigint space. */
const interest = (id: string): string => `(${id} >> 32)::int4, ${id}::bit(32)::int4`

/** Where an id stands in pg_locks: by database and both halves; objid alone belongs to any other lock as well. */
export const rowsOf = (id: string): string => `
      l.locktype = 'advisory'
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND l.classid = ((${id} >> 32) & 4294967295)::oid
  AND l.objid = (${id} & 4294967295)::oid`

/**
 * @param gate an id that no key has; every waiter that listens holds its interest, so that one probe tells a releaser
 * that nobody listens at all
 * @param channel a plain identifier on which waiters listen
 */
export function lockStatements(gate: bigint, channel: string, drawToken: DrawToken): LockStatements {
  const draw = drawToken ?? 'NULL::int8'
  const nobodyListens = `pg_try_advisory_xact_lock(${interest(`(${gate})::int8`)})`
  const tell = (id: string): string => `pg_notify('${channel}', ${id}::text) IS NOT NULL`

  /**
   * Wakes the waiters of the ids in `freed`. Waiters announce their interest before they try for the last time, and this
   * probes for interest after it has unlocked: both write before they read, in one lock table, so one of the two sees the
   * other. A probe that fails for another reason (a concurrent releaser's probe) costs one needless notification.
   * Gives the ids for which somebody was told, or null.
   */
  const wake = (freed: string): string => `
    CASE
      WHEN ${freed} IS NULL THEN NULL
      WHEN ${nobodyListens} THEN NULL
      ELSE (
        SELECT array_agg(w.id) FILTER (WHERE ${tell('w.id')})::text
          FROM unnest(${freed}) AS w (id)
         WHERE NOT pg_try_advisory_xact_lock(${interest('w.id')})
      )
    END`

  return {
    /** Tries each id exclusively; one token, drawn after the last grant, when at least one was granted. */
    acquire: {
      name: 'advisory_acquire',
      text:
        drawToken === null
          ? `
  SELECT array_agg(pg_try_advisory_lock(t.id))::text, NULL::int8
    FROM unnest($1::int8[]) AS t (id)`
          : `
  WITH attempt AS MATERIALIZED (
    SELECT pg_try_advisory_lock(t.id) AS ok FROM unnest($1::int8[]) AS t (id)
  )
  SELECT array_agg(ok)::text, CASE WHEN bool_or(ok) THEN ${draw} END FROM attempt`,
    },

    /** The same for the id `$1` alone. */
    acquireOne: {
      name: 'advisory_acquire_one',
      text:
        drawToken === null
          ? `
  SELECT CASE WHEN pg_try_advisory_lock($1::int8) THEN '{t}' ELSE '{f}' END, NULL::int8`
          : `
  WITH attempt AS MATERIALIZED (SELECT pg_try_advisory_lock($1::int8) AS ok)
  SELECT CASE WHEN ok THEN '{t}' ELSE '{f}' END, CASE WHEN ok THEN ${draw} END FROM attempt`,
    },

    /** Unlocks each exclusive id, then wakes. Second column: ids that this session did not hold; null when all is well. */
    release: {
      name: 'advisory_release',
      text: `
  WITH freed AS MATERIALIZED (
    SELECT array_agg(t.id) FILTER (WHERE NOT pg_advisory_unlock(t.id))::text AS strange
      FROM unnest($1::int8[]) AS t (id)
  )
  SELECT strange, ${wake('$1::int8[]')} FROM freed`,
    },

    /** The same for the id `$1` alone. */
    releaseOne: {
      name: 'advisory_release_one',
      text: `
  WITH freed AS MATERIALIZED (SELECT $1::int8 AS id, pg_advisory_unlock($1::int8) AS ok)
  SELECT CASE WHEN NOT ok THEN ARRAY[id]::text END,
         CASE
           WHEN ${nobodyListens} THEN NULL
           WHEN pg_try_advisory_xact_lock(${interest('id')}) THEN NULL
           WHEN ${tell('id')} THEN ARRAY[id]::text
         END
    FROM freed`,
    },

    /** Any steps in any order: run one after the other as they stand in the arrays, then token, then wake. */
    exchange: {
      name: 'advisory_exchange',
      text: `
  WITH step AS MATERIALIZED (
    SELECT t.id, t.op,
           CASE t.op
             WHEN ${step.unlockExclusive} THEN pg_advisory_unlock(t.id)
             WHEN ${step.unlockShared} THEN pg_advisory_unlock_shared(t.id)
             WHEN ${step.tryExclusive} THEN pg_try_advisory_lock(t.id)
             WHEN ${step.tryShared} THEN pg_try_advisory_lock_shared(t.id)
             WHEN ${step.announce} THEN pg_try_advisory_lock_shared(${interest('t.id')})
             WHEN ${step.withdraw} THEN pg_advisory_unlock_shared(${interest('t.id')})
           END AS ok
      FROM unnest($1::int8[], $2::int2[]) AS t (id, op)
  ), outcome AS MATERIALIZED (
    SELECT array_agg(ok) AS oks,
           bool_or(ok AND op IN (${step.tryExclusive}, ${step.tryShared})) AS granted,
           array_agg(id) FILTER (WHERE op IN (${step.unlockExclusive}, ${step.unlockShared})) AS freed
      FROM step
  )
  SELECT oks::text, CASE WHEN granted THEN ${draw} END, ${wake('freed')} FROM outcome`,
    },

    /** All ids or none: what was taken is given back in the same statement, and those who met it meanwhile are woken. */
    tryAll: {
      name: 'advisory_try_all',
      text: `
  WITH attempt AS MATERIALIZED (
    SELECT t.id, CASE WHEN $2::bool THEN pg_try_advisory_lock_shared(t.id) ELSE pg_try_advisory_lock(t.id) END AS ok
      FROM unnest($1::int8[]) AS t (id)
  ), verdict AS MATERIALIZED (
    SELECT bool_and(ok) AS granted, array_agg(id) FILTER (WHERE ok) AS taken FROM attempt
  ), outcome AS MATERIALIZED (
    SELECT granted,
           CASE WHEN NOT granted THEN (
             SELECT array_agg(u.id) FILTER (
                      WHERE CASE WHEN $2::bool THEN pg_advisory_unlock_shared(u.id) ELSE pg_advisory_unlock(u.id) END)
               FROM unnest(taken) AS u (id)
           ) END AS freed
      FROM verdict
  )
  SELECT granted, CASE WHEN granted THEN ${draw} END, ${wake('freed')} FROM outcome`,
    },

    /** Waits in the server's own queue. Failing proves nothing: the lock may be held although 57014 or 55P03 came back. */
    block: {
      name: 'advisory_block',
      text: `
  WITH attempt AS MATERIALIZED (SELECT pg_advisory_lock($1::int8) AS waited)
  SELECT ${draw} FROM attempt WHERE waited IS NOT NULL`,
    },

    /** The same in shared mode. */
    blockShared: {
      name: 'advisory_block_shared',
      text: `
  WITH attempt AS MATERIALIZED (SELECT pg_advisory_lock_shared($1::int8) AS waited)
  SELECT ${draw} FROM attempt WHERE waited IS NOT NULL`,
    },

    /**
     * After a blocked statement failed: gives back what it may have been granted all the same, and wakes. Looks first,
     * because unlocking what is not held writes a warning to the server's log.
     */
    unlockIfHeld: {
      name: 'advisory_unlock_if_held',
      text: `
  WITH held AS MATERIALIZED (
    SELECT DISTINCT l.mode FROM pg_locks AS l
     WHERE ${rowsOf('$1::int8')} AND l.objsubid = 1 AND l.granted AND l.pid = pg_backend_pid()
  ), outcome AS MATERIALIZED (
    SELECT array_agg($1::int8) FILTER (
             WHERE CASE WHEN mode = 'ShareLock' THEN pg_advisory_unlock_shared($1::int8)
                                                ELSE pg_advisory_unlock($1::int8) END) AS freed
      FROM held
  )
  SELECT ${wake('freed')} FROM outcome`,
    },

    /** Takes back one announcement of this session, and tells whether there was one. Looks first, as above. */
    withdrawIfAnnounced: {
      name: 'advisory_withdraw_if_announced',
      text: `
  WITH announced AS MATERIALIZED (
    SELECT FROM pg_locks AS l
     WHERE ${rowsOf('$1::int8')} AND l.objsubid = 2 AND l.granted AND l.mode = 'ShareLock' AND l.pid = pg_backend_pid()
  )
  SELECT CASE WHEN EXISTS (SELECT FROM announced) THEN pg_advisory_unlock_shared(${interest('$1::int8')}) ELSE false END`,
    },
  }
}

/**
 * For the transaction of a caller, on his connection and his search_path: names are qualified, and columns have aliases
 * of one word because plugins of query builders rename others.
 */
export const inTransaction = {
  try: 'SELECT pg_catalog.pg_try_advisory_xact_lock($1::bigint) AS ok',
  tryShared: 'SELECT pg_catalog.pg_try_advisory_xact_lock_shared($1::bigint) AS ok',
  lock: 'SELECT pg_catalog.pg_advisory_xact_lock($1::bigint) AS ok',
  lockShared: 'SELECT pg_catalog.pg_advisory_xact_lock_shared($1::bigint) AS ok',
  /** Sets lock_timeout until the end of the transaction and gives what it was, as shown: '0', '1500ms', '5s', '1min'. */
  swapLockTimeout: `
    WITH before AS MATERIALIZED (SELECT pg_catalog.current_setting('lock_timeout') AS value)
    SELECT before.value AS value, pg_catalog.set_config('lock_timeout', $1, true) AS now FROM before`,
} as const
