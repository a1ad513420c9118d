import type { Client } from 'pg'

/** The sessions of processes that wait: one's own, one that listens, one that polls, and one that lapsed. */
export const insertWaitingSessions = (client: Client): Promise<unknown> =>
  client.query(`INSERT INTO coordination.lock_sessions (session_id, channel, expires_at) VALUES
    ('self', 'of_self', now() + interval '1 hour'), ('live', 'of_live', now() + interval '1 hour'),
    ('polls', NULL, now() + interval '1 hour'), ('lapsed', 'of_lapsed', now() - interval '1 second')`)
