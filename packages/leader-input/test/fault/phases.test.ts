/**
 * A leader is killed, or stands still and wakes up again, in each phase of a batch. No timing is involved: a lock of the
 * test holds the leader where it is wanted, and `pg_locks` says when it is there.
 */
import { createMemoryLocker } from '@x/lock-core/memory'
import { eventually, spawnNode, type TestDatabase, type TestProcess } from '@x/testkit'
import { useDatabase } from '@x/testkit/vitest'
import type { Client } from 'pg'
import { describe, expect, it } from 'vitest'
import { z } from 'zod'
import { migrate } from '../../src/migrations.ts'
import { itemsInput } from '../support/evidence.ts'
import { differences, isCaughtUp, workloadTables } from '../support/workload.ts'

/** Item of the effect at which the handler waits for lock 1, and at which the COMMIT of its batch waits for lock 2. */
const inHandler = 120
const database = useDatabase({
  template: {
    name: 'leader-input-phases',
    prepare: async (pool) => {
      await migrate(pool)
      await pool.query(`${workloadTables};
        CREATE FUNCTION wait_at() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_advisory_xact_lock_shared(TG_ARGV[0]::bigint); RETURN NEW; END $$;
        CREATE TRIGGER in_handler BEFORE INSERT ON effects FOR EACH ROW WHEN (NEW.item = ${inHandler}) EXECUTE FUNCTION wait_at(1);
        CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON effects DEFERRABLE INITIALLY DEFERRED
          FOR EACH ROW WHEN (NEW.item = ${inHandler}) EXECUTE FUNCTION wait_at(2)`)
    },
  },
})

const status = z.object({ status: z.string(), epoch: z.string(), error: z.string().nullable() })
type Replica = TestProcess<z.infer<typeof status>>
const deadlineMs = 60_000

/** A process whose locker grants everyone: only the epoch keeps two leaders apart. */
const startReplica = (url: string, name: string): Promise<Replica> =>
  spawnNode(new URL('../support/replica.ts', import.meta.url), {
    messages: status,
    args: [url, 'everyone', name, 'patient-items'],
  })

interface Phase {
  readonly name: string
  /** Takes what the leader will wait for. */
  readonly hold: string
  readonly letGo: string
  /** A lock for which somebody waits when the leader has come to this phase. */
  readonly waiting: string
  /** What is done to it in a short run; a long one does both to each. */
  readonly inShort: readonly ('kill' | 'stop')[]
}
const long = process.env.COORDINATION_LONG === '1'
const advisory = (key: number): Pick<Phase, 'hold' | 'letGo' | 'waiting'> => ({
  hold: `SELECT pg_advisory_lock(${key})`,
  letGo: `SELECT pg_advisory_unlock(${key})`,
  waiting: `locktype = 'advisory' AND objid = ${key}`,
})
const phases: readonly Phase[] = [
  {
    name: 'while it reads the log',
    inShort: ['stop'],
    hold: 'BEGIN; LOCK TABLE coordination.changes IN ACCESS EXCLUSIVE MODE',
    letGo: 'COMMIT',
    waiting: `locktype = 'relation' AND relation = 'coordination.changes'::regclass`,
  },
  {
    name: 'before it has moved the cursor',
    inShort: ['kill'],
    hold: `BEGIN; SELECT FROM coordination.cursors WHERE name = 'stress' FOR UPDATE`,
    letGo: 'COMMIT',
    waiting: `locktype = 'transactionid'`,
  },
  { name: 'in the handler of a batch of a longer window', inShort: ['kill', 'stop'], ...advisory(1) },
  // The server finishes a COMMIT whose client is gone.
  { name: 'at its COMMIT', inShort: ['kill'], ...advisory(2) },
]

/** Everything is handled once and in order, and no leader has handled anything after its successor. */
const expectAllOnce = async (world: TestDatabase): Promise<void> => {
  const pool = world.pool()
  await eventually(() => isCaughtUp(pool), { deadlineMs, what: 'everything to be handled' })
  expect(await differences(pool)).toEqual([])
  const late = 'SELECT FROM (SELECT epoch < max(epoch) OVER (ORDER BY n) AS late FROM effects) e WHERE late'
  expect((await pool.query(late)).rowCount).toBe(0)
}

describe.each(phases)('a leader $name', ({ hold, letGo, waiting, inShort }) => {
  const reach = async (world: TestDatabase, gate: Client): Promise<Replica> => {
    const pool = world.pool()
    await using input = itemsInput({ pool, locker: createMemoryLocker() })
    await input.install()
    const first = await startReplica(world.url, 'first')
    await first.message(({ status }) => status === 'leading', deadlineMs)
    await gate.query(hold)
    // Four batches in one window. The log may be closed by now: the transaction waits with the leader.
    const written = pool.query(`BEGIN;
      INSERT INTO items SELECT n, n FROM generate_series(1, 200) n;
      INSERT INTO journal (item, what) SELECT n, 'create ->' || n FROM generate_series(1, 200) n ORDER BY n;
      COMMIT`)
    const isThere = async (): Promise<boolean> => {
      const { rows } = await pool.query(
        `SELECT a.application_name AS name FROM pg_locks l JOIN pg_stat_activity a USING (pid)
          WHERE NOT l.granted AND a.datname = current_database() AND ${waiting}`,
      )
      return rows.some(({ name }) => name === 'first')
    }
    await eventually(isThere, { deadlineMs, what: `the leader to wait: ${waiting}` })
    void written.catch(() => {})
    return first
  }

  const killed = async (): Promise<void> => {
    const world = await database.another('killed')
    const gate = await world.client()
    await using first = await reach(world, gate)
    await first.kill()
    await gate.query(letGo)
    await using second = await startReplica(world.url, 'second')
    await expectAllOnce(world)
    await second.kill()
  }
  const stopped = async (): Promise<void> => {
    const world = await database.another('stopped')
    const gate = await world.client()
    await using first = await reach(world, gate)
    first.pause()
    await gate.query(letGo)
    await using second = await startReplica(world.url, 'second')
    await second.message(({ status }) => status === 'leading', deadlineMs)
    first.resume()
    await expectAllOnce(world)
    await first.kill()
    await second.kill()
  }
  if (long || inShort.includes('kill')) it('is killed there: its successor begins where it had committed', killed)
  if (long || inShort.includes('stop')) {
    it(
      'stands still there, past the coming of its successor, and goes on: nothing of it is committed any more',
      stopped,
    )
  }
})
