import { quoteIdentifier, quoteLiteral, type Statement } from '@x/pg-session'

/** The statements that read the log and move the cursor. */
export interface LogStatements {
  /** What the world looks like: the snapshot, and a bound above all numbers that are visible in it. Parameters: none. */
  readonly probe: Statement
  /**
   * One page of a window without transactions that finished late, in the order of the log. A row of which one is above the given size has
   * no operation: whoever meets one reads on with `sizedPage`. All values as the server writes them.
   */
  readonly page: Statement
  /** The same of any window. */
  readonly latePage: Statement
  /** A page of any window that ends at a limit of bytes, and of how many rows it would be but for that. */
  readonly sizedPage: Statement
  /** The last number drawn. Parameters: none. */
  readonly lastNumber: Statement
  /** A transaction id above all that were given out before. Parameters: none. */
  readonly ownXid: Statement
  /** Types of the columns, as far as they matter for JSON. Parameters: oids. */
  readonly columnTypes: Statement
  /** The cursor as it stands. Parameters: name. */
  readonly readCursor: Statement
  /** Whether somebody has moved the cursor by hand, or taken the lead. Parameters: name. */
  readonly revision: Statement
  /** Makes a leader by its lock's token, unless a later leader was here. Parameters: name, token. */
  readonly claimByToken: Statement
  /** Makes a leader without a token: the epoch after the last. Parameters: name. */
  readonly claimNext: Statement
  /**
   * Moves the cursor for its leader only: no row for anyone else, none once somebody has moved it by hand, and none once
   * more is installed than the leader knows of. What the last window passed over was not captured for this input yet: a
   * trigger that is committed before a change is seen by whoever sees the change, so by this statement, too.
   */
  readonly move: Statement
  /** Fences without moving. Parameters: name, epoch. */
  readonly holdEpoch: Statement
  /** Remembers that this transaction's changes come from the handler itself. Parameters: name. */
  readonly markOwn: Statement
  /** Nobody else moves the cursor until the end of the transaction. Waits for a batch. Parameters: name. */
  readonly lockCursor: Statement
  /** Parameters: name, bound of the numbers drawn. */
  readonly seekNow: Statement
  /** Parameters: name. */
  readonly seekStart: Statement
  /** Parameters: name, number, bound of the numbers drawn. */
  readonly seekNumber: Statement
  /** After pg_upgrade. Parameters: name. */
  readonly adoptServer: Statement
  /** Nobody writes to the log until the end of the transaction. */
  readonly lockLog: string
  /** The cursor's lineage, and the one that is being written. Parameters: name. */
  readonly lineages: Statement
  /** Puts what this server has written since the restore into the next lineage. Parameters: lineage. */
  readonly splitLineage: Statement
  beginLineage(lineage: number): string
  /** The rest of the cursor's lineage is its window. Parameters: name, a snapshot in which all of it is visible. */
  readonly finishLineage: Statement
  /** The backend that holds the cursor's row, when there is one. Parameters: name. */
  readonly cursorHolder: Statement
  /** Parameters: its process. */
  readonly endBackend: Statement
}

/** As an expression over the sequence: a sequence that was never used says its first one too. */
export const drawn = '(last_value - CASE WHEN is_called THEN 0 ELSE 1 END)::text'

const cursorColumns = `
  epoch::text, revision::text, snap_prev::text, lo::text, snap_next::text, last_seq::text, hi::text, next_lo::text,
  array_to_string(own_xids, ','), lineage::text, gap_from::text, gap_to::text, backfill::text,
  (system_identifier = (SELECT c.system_identifier FROM pg_control_system() c))::text`

/** The lineage that is being written: the default of the log's column. */
export const currentLineage = (schema: string): string => `
  SELECT pg_get_expr(d.adbin, d.adrelid)::int FROM pg_attrdef d JOIN pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
   WHERE d.adrelid = ${quoteLiteral(`${quoteIdentifier(schema)}.changes`)}::regclass AND a.attname = 'lineage'`

/** Bytes of the text of both rows. What is stored says less: it may be compressed. */
const rowBytes = (row: string): string =>
  `coalesce(octet_length(${row}.before::text), 0) + coalesce(octet_length(${row}.after::text), 0)`

/** Microseconds since 1970, exact until 2088: a double of seconds since 2020. The numeric of `extract` takes twice as long. */
const micros = (at: string): string =>
  `round(date_part('epoch', ${at} - timestamptz '2020-01-01 00:00:00+00') * 1000000)::bigint + 1577836800000000`

/**
 * A value that the planner does not see. Where it sees a limit, and thinks that there are fewer rows, it sorts all that is
 * left for each page: of a large transaction, whose id no statistics know, the more the larger it is. And where the cost
 * that it expects depends on values, it plans anew for each of them, which takes longer than a small page.
 */
export const hidden = (value: string): string => `(SELECT ${value})`

export function logStatements(schema: string): LogStatements {
  const at = quoteIdentifier(schema)
  const fresh = `revision = revision + 1, moved_at = clock_timestamp(), own_xids = '{}', gap_from = NULL, gap_to = NULL`
  const unpinned = 'snap_next = NULL, last_seq = 0, hi = NULL, next_lo = NULL'
  // "coalesce(..., false)" keeps the conditions on xid away from the planner, which would else choose their index, or think
  // that few rows are left and sort all of them for each page. By number, from lo on, is the one path that stays good
  // whatever the statistics say.
  const range = `c.seq > ${hidden('$1::bigint')} AND c.seq <= ${hidden('$2::bigint')}
              AND coalesce(c.xid >= $3::xid8 AND c.xid < $4::xid8 AND c.xid <> ALL ($5::xid8[])
                           AND c.lineage = $6 AND c.source[0] = ANY ($7::text[]), false)`
  const limit = hidden('$8::bigint')
  const columns = 'c.seq, c.xid, c.source, c.operation, c.before, c.after, c.at'
  // Transactions that finished late come from behind lo, one by one. BETWEEN instead of = keeps the order by xid and number
  // a reason to take their index.
  const rangeAndLate = `
          (SELECT ${columns} FROM ${at}.changes c WHERE ${range} ORDER BY c.seq LIMIT ${limit})
          UNION ALL
          (SELECT c.*
             FROM unnest(${hidden('$10::xid8[]')}) AS late (xid),
                  LATERAL (SELECT ${columns}
                             FROM ${at}.changes c
                            WHERE c.xid BETWEEN late.xid AND late.xid AND c.seq > ${hidden('$11::bigint')}
                              AND coalesce(c.lineage = $6 AND c.source[0] = ANY ($7::text[]), false)
                            ORDER BY c.xid, c.seq LIMIT ${limit}) c)`
  // Nothing is cast to text on the way: the server writes text anyway, and a cast would do it twice.
  const shown = `
               c.seq, c.xid, c.source,
               CASE WHEN octet_length(c.before::text) > $9 OR octet_length(c.after::text) > $9 THEN NULL ELSE c.operation END,
               CASE WHEN octet_length(c.before::text) <= $9 THEN c.before END,
               CASE WHEN octet_length(c.after::text) <= $9 THEN c.after END,
               ${micros('c.at')}`
  return {
    probe: {
      name: 'input_probe',
      // The snapshot is taken before the sequence is read: whatever is visible in it has drawn its number by then.
      text: `SELECT pg_current_snapshot()::text, ${drawn} FROM ${at}.changes_seq_seq`,
    },
    page: {
      name: 'input_page',
      text: `SELECT ${shown} FROM ${at}.changes c WHERE ${range} ORDER BY c.seq LIMIT ${limit}`,
    },
    latePage: {
      name: 'input_late_page',
      text: `SELECT ${shown} FROM (${rangeAndLate}) c ORDER BY c.seq LIMIT ${limit}`,
    },
    sizedPage: {
      name: 'input_sized_page',
      text: `
        WITH page AS (${rangeAndLate} ORDER BY seq LIMIT ${limit}), sized AS (
          SELECT page.*, sum(${rowBytes('page')}) OVER (ORDER BY seq ROWS UNBOUNDED PRECEDING) AS bytes,
                 row_number() OVER (ORDER BY seq ROWS UNBOUNDED PRECEDING) AS place,
                 count(*) OVER () AS total
            FROM page
        )
        SELECT s.seq, s.xid, s.source, s.operation, s.before, s.after, ${micros('s.at')}, s.total
          FROM sized s WHERE s.bytes <= $9 OR s.place = 1 ORDER BY s.seq`,
    },
    lastNumber: { name: 'input_last_number', text: `SELECT ${drawn} FROM ${at}.changes_seq_seq` },
    ownXid: { name: 'input_own_xid', text: 'SELECT pg_current_xact_id()::text' },
    columnTypes: {
      name: 'input_column_types',
      // Domains and arrays are followed down to what they are made of.
      text: `
        WITH RECURSIVE made_of (relation, place, name, type) AS (
          SELECT a.attrelid, a.attnum, a.attname, a.atttypid FROM pg_attribute a
           WHERE a.attrelid = ANY ($1::oid[]) AND a.attnum > 0 AND NOT a.attisdropped
          UNION ALL
          SELECT m.relation, m.place, m.name, CASE t.typtype WHEN 'd' THEN t.typbasetype ELSE t.typelem END
            FROM made_of m JOIN pg_type t ON t.oid = m.type
           WHERE t.typtype = 'd' OR (t.typcategory = 'A' AND t.typelem <> 0)
        )
        SELECT m.relation::text, m.name, bool_or(m.type IN ('bigint'::regtype, 'numeric'::regtype))::text,
               bool_and(t.typcategory <> 'A' AND t.typtype IN ('b', 'd', 'e', 'r') AND t.oid NOT IN ('json'::regtype, 'jsonb'::regtype)
                        AND (t.oid < 16384 OR t.typtype <> 'b'))::text
          FROM made_of m JOIN pg_type t ON t.oid = m.type GROUP BY m.relation, m.place, m.name ORDER BY m.relation, m.place`,
    },
    revision: {
      name: 'input_revision',
      text: `SELECT epoch::text, revision::text FROM ${at}.cursors WHERE name = $1`,
    },
    readCursor: {
      name: 'input_read_cursor',
      text: `SELECT ${cursorColumns} FROM ${at}.cursors WHERE name = $1`,
    },
    claimByToken: {
      name: 'input_claim_by_token',
      text: `UPDATE ${at}.cursors SET epoch = $2 WHERE name = $1 AND epoch < $2 RETURNING ${cursorColumns}`,
    },
    claimNext: {
      name: 'input_claim_next',
      text: `UPDATE ${at}.cursors SET epoch = epoch + 1 WHERE name = $1 RETURNING ${cursorColumns}`,
    },
    move: {
      name: 'input_move',
      text: `UPDATE ${at}.cursors
                SET snap_prev = $4, lo = $5, snap_next = $6, last_seq = coalesce($7, 0), hi = $8, next_lo = $9,
                    own_xids = $10::xid8[], backfill = $11::jsonb, lineage = $12, moved_at = clock_timestamp()
              WHERE name = $1 AND epoch = $2 AND revision = $3
                AND NOT EXISTS (SELECT FROM ${at}.inputs i
                                 WHERE i.name = $1 AND i.relation || ' ' || array_to_string(i.operations, ',') <> ALL ($13::text[]))
              RETURNING 1`,
    },
    holdEpoch: {
      name: 'input_hold_epoch',
      text: `UPDATE ${at}.cursors SET moved_at = clock_timestamp() WHERE name = $1 AND epoch = $2 RETURNING 1`,
    },
    markOwn: {
      name: 'input_mark_own',
      text: `UPDATE ${at}.cursors SET own_xids = own_xids || pg_current_xact_id()
              WHERE name = $1 AND EXISTS (SELECT FROM ${at}.changes c WHERE c.xid = pg_current_xact_id())
              RETURNING pg_current_xact_id()::text`,
    },
    lockCursor: { name: 'input_lock_cursor', text: `SELECT 1 FROM ${at}.cursors WHERE name = $1 FOR UPDATE` },
    seekNow: {
      name: 'input_seek_now',
      text: `UPDATE ${at}.cursors SET ${fresh}, ${unpinned}, snap_prev = pg_current_snapshot(), lo = $2 WHERE name = $1 RETURNING 1`,
    },
    seekStart: {
      name: 'input_seek_start',
      text: `UPDATE ${at}.cursors SET ${fresh}, ${unpinned}, snap_prev = '3:3:', lo = 0 WHERE name = $1 RETURNING 1`,
    },
    seekNumber: {
      name: 'input_seek_number',
      // Only the window up to now is cut by number: what commits later may have a lower one, and is new all the same.
      text: `UPDATE ${at}.cursors
                SET ${fresh}, snap_prev = '3:3:', lo = 0, snap_next = pg_current_snapshot(), last_seq = $2, next_lo = $3,
                    hi = (SELECT (${drawn})::bigint FROM ${at}.changes_seq_seq)
              WHERE name = $1 RETURNING 1`,
    },
    adoptServer: {
      name: 'input_adopt_server',
      text: `UPDATE ${at}.cursors SET revision = revision + 1, system_identifier = (SELECT c.system_identifier FROM pg_control_system() c)
              WHERE name = $1 RETURNING 1`,
    },
    lockLog: `LOCK TABLE ${at}.changes IN ACCESS EXCLUSIVE MODE`,
    lineages: {
      name: 'input_lineages',
      text: `
        SELECT c.lineage,
               (${currentLineage(schema)})
          FROM ${at}.cursors c WHERE c.name = $1 FOR UPDATE`,
    },
    splitLineage: {
      name: 'input_split_lineage',
      // A row that this server wrote by capture carries its own transaction in its header. A restore writes rows of many
      // old transactions in one of its own, whose id may be the same as one of theirs.
      text: `
        UPDATE ${at}.changes l SET lineage = $1::int + 1
         WHERE l.lineage = $1 AND l.xid::xid = l.xmin
           AND NOT EXISTS (SELECT FROM ${at}.changes o WHERE o.xmin = l.xmin AND o.xid::xid <> o.xmin AND o.lineage = $1)`,
    },
    beginLineage: (lineage) =>
      Array.from(
        { length: 17 },
        (_, n) => `ALTER TABLE ${at}.changes${n === 0 ? '' : `_${n - 1}`} ALTER COLUMN lineage SET DEFAULT ${lineage}`,
      ).join('; '),
    finishLineage: {
      name: 'input_finish_lineage',
      text: `
        UPDATE ${at}.cursors SET revision = revision + 1, system_identifier = (SELECT c.system_identifier FROM pg_control_system() c),
               epoch = 0, own_xids = '{}', snap_next = coalesce(snap_next, $2),
               next_lo = CASE WHEN snap_next IS NULL THEN 0 ELSE -1 END, hi = (SELECT (${drawn})::bigint FROM ${at}.changes_seq_seq),
               last_seq = CASE WHEN snap_next IS NULL THEN 0 ELSE last_seq END
         WHERE name = $1`,
    },
    cursorHolder: {
      name: 'input_cursor_holder',
      // Whoever updated the row and has not finished stands in its xmax.
      text: `SELECT l.pid FROM ${at}.cursors c JOIN pg_locks l ON l.locktype = 'transactionid' AND l.transactionid = c.xmax
              WHERE c.name = $1 AND l.granted AND l.mode = 'ExclusiveLock' AND l.pid <> pg_backend_pid()`,
    },
    endBackend: { name: 'input_end_backend', text: 'SELECT pg_terminate_backend($1)' },
  }
}
