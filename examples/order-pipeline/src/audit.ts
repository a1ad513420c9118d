import type { ClientBase } from 'pg'
import { z } from 'zod'

/** One question of the audit: `compared` things were looked at, `violations` of them were wrong. */
export interface Finding {
  readonly question: string
  readonly compared: number
  readonly violations: number
  /** The first few violations, in words. */
  readonly samples: readonly string[]
}

export interface AuditReport {
  readonly findings: readonly Finding[]
  readonly passed: boolean
}

interface Question {
  readonly question: string
  /** Counts what is looked at. Where it is zero the audit fails: nothing seen is nothing shown. */
  readonly compared: string
  /** One row for each violation, with a column `what` that says it in words. No row: all is well. */
  readonly violations: string
}

const changes = 'SELECT count(*) FROM journal'
const handled = 'SELECT count(*) FROM effects'
const indexed = 'SELECT count(*) FROM index_effects'
const change = (row: string) =>
  `format('%s of order %s, revision %s', ${row}.operation, ${row}.order_id, ${row}.revision)`

/** Plain SQL over the tables of `schema.sql`. None of it uses a table, a function or a number of the packages. */
const questions: readonly Question[] = [
  {
    question: 'Lost: a committed change without an effect',
    compared: changes,
    violations: `
      SELECT ${change('j')} AS what
      FROM journal j
      WHERE NOT EXISTS (SELECT FROM effects e WHERE (e.order_id, e.revision) = (j.order_id, j.revision))`,
  },
  {
    question: 'Doubled: a change with a second effect',
    compared: handled,
    violations: `
      SELECT ${change('again')} || ' at position ' || position AS what
      FROM (SELECT *, row_number() OVER (PARTITION BY order_id, revision ORDER BY position) AS nth FROM effects) again
      WHERE nth > 1`,
  },
  {
    question: 'Invented: an effect of a change that rolled back, or with other values',
    compared: handled,
    violations: `
      SELECT ${change('e')} AS what
      FROM effects e
      WHERE NOT EXISTS (
        SELECT FROM journal j
        WHERE (j.order_id, j.revision, j.operation, j.customer, j.cents)
            = (e.order_id, e.revision, e.operation, e.customer, e.cents))`,
  },
  {
    question: 'Inverted: an order whose changes were handled out of order',
    compared: handled,
    violations: `
      SELECT ${change('e')} || ' after revision ' || latest AS what
      FROM (SELECT *, max(revision) OVER (
              PARTITION BY order_id ORDER BY position ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS latest
            FROM effects) e
      WHERE revision < latest`,
  },
  {
    question: 'Deposed: an effect of a leader whose successor had begun',
    compared: handled,
    violations: `
      SELECT ${change('e')} || format(' in epoch %s after epoch %s', epoch, latest) AS what
      FROM (SELECT *, max(epoch) OVER (
              PARTITION BY input ORDER BY position ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS latest
            FROM (SELECT 'totals' AS input, position, order_id, revision, operation, epoch FROM effects
                  UNION ALL
                  SELECT 'index', position, order_id, revision, operation, epoch FROM index_effects) AS all_effects) e
      WHERE epoch < latest`,
  },
  {
    question: 'Totals that differ from the orders, recomputed',
    compared: 'SELECT count(*) FROM customer_totals',
    violations: `
      SELECT format('customer %s: %s orders of %s cents kept, %s of %s recomputed', customer,
               coalesce(kept.orders, 0), coalesce(kept.cents, 0), coalesce(truth.orders, 0), coalesce(truth.cents, 0)) AS what
      FROM customer_totals kept
      FULL JOIN (SELECT customer, count(*) AS orders, sum(cents) AS cents FROM orders GROUP BY customer) truth USING (customer)
      WHERE (coalesce(kept.orders, 0), coalesce(kept.cents, 0)) <> (coalesce(truth.orders, 0), coalesce(truth.cents, 0))`,
  },
  {
    question: 'Index: an order that the second input lost, kept, or put elsewhere',
    compared: 'SELECT count(*) FROM order_index',
    violations: `
      SELECT format('order %s: %s kept, %s recomputed', coalesce(truth.id, kept.order_id), kept.band, truth.band) AS what
      FROM order_index kept
      FULL JOIN (SELECT o.*, (SELECT name FROM price_bands b WHERE b.from_cents <= o.cents
                              ORDER BY b.from_cents DESC LIMIT 1) AS band FROM orders o) truth ON truth.id = kept.order_id
      WHERE (kept.customer, kept.cents, kept.band) IS DISTINCT FROM (truth.customer, truth.cents, truth.band)`,
  },
  {
    question: 'Unread: an order older than the second input that never reached it',
    compared: `${indexed} WHERE operation = 'read'`,
    violations: `
      SELECT format('order %s', o.id) AS what
      FROM orders o
      WHERE o.id <= (SELECT max(order_id) FROM index_effects WHERE operation = 'read')
        AND NOT EXISTS (SELECT FROM index_effects e WHERE e.order_id = o.id)`,
  },
  {
    question: 'Skipped: a change that the second input missed after an earlier one',
    compared: indexed,
    violations: `
      SELECT ${change('j')} AS what
      FROM journal j
      JOIN (SELECT order_id, min(revision) AS first FROM index_effects GROUP BY order_id) seen USING (order_id)
      WHERE j.revision > seen.first
        AND NOT EXISTS (SELECT FROM index_effects e WHERE (e.order_id, e.revision) = (j.order_id, j.revision))`,
  },
  {
    question: 'Repeated: a change that the second input got twice, or an order read twice',
    compared: indexed,
    violations: `
      SELECT ${change('again')} || ' at position ' || position AS what
      FROM (SELECT *, row_number() OVER (
              PARTITION BY order_id, operation = 'read', CASE WHEN operation <> 'read' THEN revision END
              ORDER BY position) AS nth
            FROM index_effects) again
      WHERE nth > 1`,
  },
  {
    question: 'Backwards: an order whose changes the second input got out of order',
    compared: indexed,
    violations: `
      SELECT ${change('e')} || ' after revision ' || latest AS what
      FROM (SELECT *, max(revision) OVER (
              PARTITION BY order_id ORDER BY position ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS latest
            FROM index_effects) e
      WHERE revision < latest`,
  },
  {
    question: 'Stuck: a poison event that held up other orders, or was never handled',
    compared: 'SELECT count(*) FROM poison',
    violations: `
      SELECT format('order %s', p.order_id) AS what
      FROM poison p
      WHERE NOT EXISTS (
        SELECT FROM index_effects mended
        JOIN index_effects other ON other.order_id > p.order_id AND other.position < mended.position
        WHERE (mended.order_id, mended.revision) = (p.order_id, 1))`,
  },
  {
    question: 'Overlapping: two runs of the singleton job at one time',
    compared: 'SELECT count(*) FROM job_runs WHERE ended_at IS NOT NULL',
    // Where the demo itself ended the session of the lock, its holder may hear of it a moment after the next one has
    // begun; where it killed the holder, a statement may still have been on its way. Excused for runs without an effect.
    violations: `
      SELECT format('run %s on %s and run %s on %s', a.id, a.node, b.id, b.node) AS what
      FROM (SELECT *, tstzrange(started_at, coalesce(ended_at, seen_at), '[]') AS during FROM job_runs) a
      JOIN (SELECT *, tstzrange(started_at, coalesce(ended_at, seen_at), '[]') AS during FROM job_runs) b
        ON a.id < b.id AND a.during && b.during
      WHERE NOT (a.ended_at IS NULL AND EXISTS (
        SELECT FROM faults f
        WHERE f.kind IN ('end-job-session', 'kill') AND f.node = a.node AND f.at BETWEEN a.started_at AND b.started_at))`,
  },
  {
    question: 'Unfenced: a job run that began with an older token than the one before',
    compared: 'SELECT count(*) FROM job_runs',
    violations: `
      SELECT format('run %s on %s: token %s after %s', id, node, token, latest) AS what
      FROM (SELECT *, lag(token) OVER (ORDER BY started_at) AS latest FROM job_runs) r
      WHERE token <= latest`,
  },
  {
    question: 'Headless: a leader that was killed or stopped and had no successor',
    compared: "SELECT count(*) FROM faults WHERE kind IN ('kill', 'stop')",
    violations: `
      SELECT format('%s of %s at %s', f.kind, f.node, f.at) AS what
      FROM faults f
      WHERE f.kind IN ('kill', 'stop')
        AND NOT EXISTS (
          SELECT FROM terms successor
          WHERE successor.node <> f.node AND successor.epoch > (
            SELECT max(epoch) FROM terms own WHERE own.node = f.node AND own.first_batch_at < f.at))`,
  },
  {
    question: 'The journal itself: an order that is not as its last entry says',
    compared: 'SELECT count(DISTINCT order_id) FROM journal',
    violations: `
      SELECT format('order %s', coalesce(o.id, j.order_id)) AS what
      FROM orders o
      FULL JOIN (SELECT DISTINCT ON (order_id) * FROM journal ORDER BY order_id, revision DESC) j ON j.order_id = o.id
      WHERE (j.operation = 'delete') IS DISTINCT FROM (o.id IS NULL)
         OR (o.id IS NOT NULL AND (o.revision, o.customer, o.cents) IS DISTINCT FROM (j.revision, j.customer, j.cents))`,
  },
]

const counted = z.object({ compared: z.coerce.number(), violations: z.coerce.number(), samples: z.array(z.string()) })

/** Asks all questions of one snapshot of the database, through a bare `pg` client. */
export const audit = async (client: ClientBase): Promise<AuditReport> => {
  await client.query('BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY')
  const findings: Finding[] = []
  for (const { question, compared, violations } of questions) {
    const { rows } = await client.query(`
      WITH found AS (${violations})
      SELECT (${compared}) AS compared,
             (SELECT count(*) FROM found) AS violations,
             ARRAY(SELECT what FROM found LIMIT 3) AS samples`)
    findings.push({ question, ...counted.parse(rows[0]) })
  }
  await client.query('COMMIT')
  return { findings, passed: findings.every(({ compared, violations }) => compared > 0 && violations === 0) }
}
