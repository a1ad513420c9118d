import { readFile } from 'node:fs/promises'
import { useDatabase } from '@x/testkit/vitest'
import type { Client } from 'pg'
import { beforeEach, describe, expect, it } from 'vitest'
import { audit } from '../../src/audit.ts'

const database = useDatabase({
  template: {
    name: 'order-pipeline',
    prepare: async (pool) => {
      await pool.query(await readFile(new URL('../../src/schema.sql', import.meta.url), 'utf8'))
    },
  },
})

/** A run in which everything went well: three orders, two terms of leaders, three runs of the job, one killed leader. */
const goodRun = `
  TRUNCATE orders, journal, effects, customer_totals, terms, job_runs, faults, order_index, index_effects, poison RESTART IDENTITY;
  INSERT INTO orders (customer, cents, revision) VALUES (7, 300, 3);
  INSERT INTO orders (customer, cents, revision) OVERRIDING SYSTEM VALUE SELECT 8, 500, 1;
  INSERT INTO journal (order_id, revision, operation, customer, cents) VALUES
    (1, 1, 'create', 7, 100), (2, 1, 'create', 8, 500), (3, 1, 'create', 8, 900),
    (1, 2, 'update', 7, 200), (3, 2, 'delete', 8, 900), (1, 3, 'update', 7, 300);
  INSERT INTO effects (order_id, revision, operation, customer, cents, idempotency_key, epoch, node)
    SELECT order_id, revision, operation, customer, cents, 'key-' || n, CASE WHEN n <= 3 THEN 1 ELSE 2 END,
           CASE WHEN n <= 3 THEN 'node-1' ELSE 'node-2' END
    FROM (SELECT *, row_number() OVER (ORDER BY revision, order_id) AS n FROM journal) j ORDER BY n;
  INSERT INTO order_index (order_id, customer, cents, band) VALUES (1, 7, 300, 'small'), (2, 8, 500, 'small');
  INSERT INTO poison (order_id) VALUES (1);
  INSERT INTO index_effects (order_id, revision, operation, idempotency_key, epoch, node) VALUES
    (2, 1, 'read', 'k', 1, 'indexer-1'), (3, 1, 'create', 'k', 1, 'indexer-1'), (3, 1, 'read', 'k', 1, 'indexer-1'),
    (3, 2, 'delete', 'k', 2, 'indexer-2'), (1, 1, 'create', 'k', 2, 'indexer-2'), (1, 2, 'update', 'k', 2, 'indexer-2'),
    (1, 3, 'update', 'k', 2, 'indexer-2');
  INSERT INTO customer_totals (customer, orders, cents) VALUES (7, 1, 300), (8, 1, 500), (9, 0, 0);
  INSERT INTO terms (epoch, node, first_batch_at) VALUES (1, 'node-1', '2030-01-01 00:00:01Z'), (2, 'node-2', '2030-01-01 00:00:09Z');
  INSERT INTO faults (kind, node, at) VALUES ('kill', 'node-1', '2030-01-01 00:00:05Z');
  INSERT INTO job_runs (node, token, started_at, seen_at, ended_at, orders) VALUES
    ('node-1', 1, '2030-01-01 00:00:01.0Z', '2030-01-01 00:00:01.2Z', '2030-01-01 00:00:01.3Z', 1),
    ('node-1', 2, '2030-01-01 00:00:02.0Z', '2030-01-01 00:00:02.2Z', NULL, NULL),
    ('node-2', 3, '2030-01-01 00:00:02.5Z', '2030-01-01 00:00:02.8Z', '2030-01-01 00:00:02.9Z', 2)`

let client: Client
/** The questions that found something wrong, by their first word. */
const complaints = async (): Promise<string[]> => {
  const { findings, passed } = await audit(client)
  const wrong = findings.filter(({ violations, compared }) => violations > 0 || compared === 0)
  expect(passed).toBe(wrong.length === 0)
  return wrong.map(({ question }) => question.split(/[: ]/)[0] ?? '')
}

beforeEach(async () => {
  client ??= await database.client()
  await client.query(goodRun)
})

describe('the audit', () => {
  it('passes a run in which everything went well', async () => {
    expect(await complaints()).toEqual([])
  })

  it.each([
    ['a change without an effect', 'DELETE FROM effects WHERE order_id = 1 AND revision = 2', ['Lost']],
    [
      'an effect that came twice',
      `INSERT INTO effects (order_id, revision, operation, customer, cents, idempotency_key, epoch, node)
       SELECT order_id, revision, operation, customer, cents, 'another key', 2, node FROM effects WHERE order_id = 2`,
      ['Doubled'],
    ],
    [
      'an effect of a change that was rolled back',
      `INSERT INTO effects (order_id, revision, operation, customer, cents, idempotency_key, epoch, node)
       VALUES (4, 1, 'create', 7, 1, 'key', 2, 'node-2')`,
      ['Invented'],
    ],
    ['an effect with another price', 'UPDATE effects SET cents = 201 WHERE cents = 200', ['Invented']],
    [
      'two changes of one order in the wrong order',
      `UPDATE effects SET revision = 5 - revision, cents = 500 - cents WHERE order_id = 1 AND revision IN (2, 3)`,
      ['Inverted'],
    ],
    [
      'a deposed leader that wrote after its successor',
      'UPDATE effects SET epoch = 1 WHERE position = (SELECT max(position) FROM effects)',
      ['Deposed'],
    ],
    ['a total that is off by one cent', 'UPDATE customer_totals SET cents = cents + 1 WHERE customer = 7', ['Totals']],
    ['a customer without a total', 'DELETE FROM customer_totals WHERE customer = 8', ['Totals']],
    [
      'two finished runs of the job at one time',
      `UPDATE job_runs SET ended_at = '2030-01-01 00:00:02.6Z' WHERE id = 1`,
      ['Overlapping'],
    ],
    [
      'a run that was still at work when the next began',
      `UPDATE job_runs SET seen_at = '2030-01-01 00:00:02.6Z' WHERE id = 2`,
      ['Overlapping'],
    ],
    ['a run under an older token', 'UPDATE job_runs SET token = 2 WHERE id = 3', ['Unfenced']],
    ['a killed leader without a successor', 'DELETE FROM terms WHERE epoch = 2', ['Headless']],
    [
      'a journal that does not tell what happened to the orders',
      'UPDATE orders SET cents = 501, customer = 8 WHERE customer = 8',
      ['Totals', 'Index', 'The'],
    ],
    [
      'an order that no journal knows',
      'INSERT INTO orders (customer, cents) VALUES (9, 0)',
      ['Totals', 'Index', 'The'],
    ],
    ['an order in the wrong band of the index', `UPDATE order_index SET band = 'large' WHERE order_id = 1`, ['Index']],
    ['an order that is still in the index', `INSERT INTO order_index VALUES (3, 8, 900, 'small')`, ['Index']],
    ['an order that the backfill passed over', 'DELETE FROM index_effects WHERE order_id = 2', ['Unread']],
    ['a change that a parked order lost', 'DELETE FROM index_effects WHERE order_id = 1 AND revision = 2', ['Skipped']],
    [
      'a change that the index got twice',
      `INSERT INTO index_effects (order_id, revision, operation, idempotency_key, epoch, node)
       VALUES (1, 3, 'update', 'k', 2, 'indexer-2')`,
      ['Repeated'],
    ],
    [
      'an order that the index read twice',
      `INSERT INTO index_effects (order_id, revision, operation, idempotency_key, epoch, node)
       VALUES (2, 1, 'read', 'k', 2, 'indexer-2')`,
      ['Repeated'],
    ],
    [
      'a read that is older than a change that came before it',
      `UPDATE index_effects SET operation = CASE operation WHEN 'read' THEN 'create' ELSE 'read' END,
              revision = CASE operation WHEN 'read' THEN 1 ELSE 2 END
       WHERE order_id = 3 AND operation <> 'delete'`,
      ['Backwards'],
    ],
    [
      'a deposed leader of the second input that wrote after its successor',
      'UPDATE index_effects SET epoch = 1 WHERE position = (SELECT max(position) FROM index_effects)',
      ['Deposed'],
    ],
    [
      'a poison event that held up what came later',
      'UPDATE index_effects SET order_id = 1, revision = 1 WHERE position = 1; DELETE FROM index_effects WHERE position = 5',
      ['Unread', 'Stuck'],
    ],
    [
      'a poison event that was never handled',
      'DELETE FROM index_effects WHERE order_id = 1; DELETE FROM order_index WHERE order_id = 1',
      ['Index', 'Unread', 'Stuck'],
    ],
  ])('finds %s', async (_, tampering, expected) => {
    await client.query(tampering)
    expect(await complaints()).toEqual(expected)
  })

  it.each(['end-job-session', 'kill'])(
    'excuses a run without an effect that the demo cut off (%s), and no other',
    async (kind) => {
      await client.query(`
      UPDATE job_runs SET seen_at = '2030-01-01 00:00:02.6Z' WHERE id = 2;
      INSERT INTO faults (kind, node, at) VALUES ('${kind}', 'node-1', '2030-01-01 00:00:02.4Z')`)
      expect(await complaints()).toEqual([])
      await client.query(`UPDATE job_runs SET ended_at = seen_at WHERE id = 2`)
      expect(await complaints()).toEqual(['Overlapping'])
    },
  )

  it('does not pass a run in which nothing happened', async () => {
    await client.query(
      'TRUNCATE orders, journal, effects, customer_totals, terms, job_runs, faults, order_index, index_effects, poison',
    )
    const { passed } = await audit(client)
    expect(passed).toBe(false)
  })

  it('names the first few violations', async () => {
    await client.query('DELETE FROM effects WHERE order_id = 1 AND revision = 2')
    const { findings } = await audit(client)
    expect(findings[0]?.samples).toEqual(['update of order 1, revision 2'])
  })
})
