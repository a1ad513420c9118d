import { eventually, withAdmin } from '@x/testkit'
import { useDatabase } from '@x/testkit/vitest'
import { expect, it } from 'vitest'
import { audit } from '../../src/audit.ts'
import { createRunDatabase } from '../../src/database.ts'
import { createFleet } from '../../src/fleet.ts'

const database = useDatabase({ leakCheck: 'off' })

/** What many services do: a trigger fills a log, and a reader asks for numbers above the last one. */
const naiveLog = `
  CREATE TABLE log (seq bigserial PRIMARY KEY, operation text, id bigint, revision int, customer int, cents int);
  CREATE FUNCTION write_log() RETURNS trigger LANGUAGE plpgsql AS $$
  DECLARE
    r orders := CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
  BEGIN
    INSERT INTO log (operation, id, revision, customer, cents) VALUES (
      CASE TG_OP WHEN 'INSERT' THEN 'create' WHEN 'UPDATE' THEN 'update' ELSE 'delete' END,
      r.id, r.revision + (TG_OP = 'DELETE')::int, r.customer, r.cents);
    RETURN NULL;
  END $$;
  CREATE TRIGGER write_log AFTER INSERT OR UPDATE OR DELETE ON orders FOR EACH ROW EXECUTE FUNCTION write_log()`
const naiveRead = `
  WITH read AS (
    INSERT INTO effects (order_id, revision, operation, customer, cents, idempotency_key, epoch, node)
    SELECT id, revision, operation, customer, cents, seq, 1, 'naive' FROM log WHERE seq > $1 ORDER BY seq RETURNING *)
  SELECT coalesce(max(idempotency_key::bigint), $1) AS seq FROM read`

it('finds what a feed loses that reads its log by ascending numbers', async () => {
  await using run = await createRunDatabase(database.adminUrl)
  const failures: Error[] = []
  const options = {
    database: run,
    leaseMs: 1_000,
    rate: 400,
    log: () => {},
    fail: (error: Error) => failures.push(error),
  }
  await using fleet = createFleet(options)
  await withAdmin(run.url, async (client) => {
    await client.query(naiveLog)
    const load = fleet.startLoad()
    let seq = '0'
    const read = async (): Promise<void> => {
      seq = (await client.query<{ seq: string }>(naiveRead, [seq])).rows[0]?.seq ?? seq
    }
    // The load keeps some transactions open for a second: they commit below the number that was read meanwhile.
    await eventually(
      async () => {
        await read()
        return (fleet.load?.long ?? 0) >= 3
      },
      { deadlineMs: 30_000, everyMs: 20 },
    )
    await load.stop()
    await read()
    const { findings } = await audit(client)
    const violations = new Map(findings.map(({ question, violations }) => [question.split(':')[0], violations]))
    expect(violations.get('Lost')).toBeGreaterThanOrEqual(3)
    expect(violations.get('Doubled')).toBe(0)
    expect(violations.get('Invented')).toBe(0)
    expect(violations.get('The journal itself')).toBe(0)
  })
  expect(failures).toEqual([])
})
