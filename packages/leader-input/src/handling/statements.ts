import { quoteIdentifier, type Statement } from '@x/pg-session'

/** The statements about parked events. */
export interface ParkStatements {
  /** Puts one event aside. Parameters: input, seq, xid, relation, operation, key, old key, before, after, microseconds, lineage, reason, rest of the idempotency key. */
  readonly park: Statement
  /** What holds back which keys, in order. Parameters: input. */
  readonly blocked: Statement
  /** Parked events behind one, in order. Parameters: input, id, limit. */
  readonly parkedAfter: Statement
  /** Parameters: ids. */
  readonly unpark: Statement
  /** Asks the leader to hand them over. Parameters: ids. */
  readonly askReplay: Statement
  /** All that was asked for stays parked. Parameters: input. */
  readonly refuseReplay: Statement
  /** Stays parked. Parameters: ids, reason or null. */
  readonly keepParked: Statement
  /** Parameters: input. */
  readonly replayWanted: Statement
  /** How many are still parked, and of how many the leader has not said whether. Parameters: ids. */
  readonly replayState: Statement
}

export function parkStatements(schema: string): ParkStatements {
  const at = quoteIdentifier(schema)
  return {
    park: {
      name: 'input_park',
      text: `
        INSERT INTO ${at}.parked_changes (input, seq, xid, relation, operation, key, old_key, before, after, at, lineage, reason, key_suffix)
        VALUES ($1, $2, $3::xid8, $4, $5, $6, $7, $8, $9, 'epoch'::timestamptz + $10::bigint * interval '1 microsecond', $11, $12, $13)`,
    },
    blocked: {
      name: 'input_blocked',
      text: `SELECT relation, operation, key::text, old_key::text FROM ${at}.parked_changes WHERE input = $1 ORDER BY id`,
    },
    parkedAfter: {
      name: 'input_parked_after',
      text: `
        SELECT seq::text, xid::text, relation, operation, key::text, old_key::text, before::text, after::text,
               (extract(epoch FROM at) * 1000000)::bigint::text, id::text, replay::text, key_suffix,
               (reason IS NULL)::text
          FROM ${at}.parked_changes WHERE input = $1 AND id > $2 ORDER BY parked_changes.id LIMIT $3`,
    },
    unpark: {
      name: 'input_unpark',
      text: `DELETE FROM ${at}.parked_changes WHERE id = ANY ($1::bigint[]) RETURNING id`,
    },
    askReplay: {
      name: 'input_ask_replay',
      text: `UPDATE ${at}.parked_changes SET replay = true WHERE id = ANY ($1::bigint[])`,
    },
    keepParked: {
      name: 'input_keep_parked',
      text: `UPDATE ${at}.parked_changes SET replay = false, reason = coalesce($2, reason) WHERE id = ANY ($1::bigint[])`,
    },
    refuseReplay: {
      name: 'input_refuse_replay',
      text: `UPDATE ${at}.parked_changes SET replay = false WHERE input = $1 AND replay`,
    },
    replayState: {
      name: 'input_replay_state',
      text: `SELECT count(*)::text, (count(*) FILTER (WHERE replay))::text FROM ${at}.parked_changes WHERE id = ANY ($1::bigint[])`,
    },
    replayWanted: {
      name: 'input_replay_wanted',
      text: `SELECT EXISTS (SELECT FROM ${at}.parked_changes WHERE input = $1 AND replay)::text`,
    },
  }
}
