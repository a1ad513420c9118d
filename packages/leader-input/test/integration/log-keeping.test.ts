import { createMemoryLocker } from '@x/lock-core/memory'
import { eventually } from '@x/testkit'
import { useDatabase } from '@x/testkit/vitest'
import type { Pool } from 'pg'
import { beforeEach, describe, expect, it } from 'vitest'
import { upkeepStatements } from '../../src/log/upkeep-statements.ts'
import { countedPool } from '../support/counted-pool.ts'
import { collect, shopInput, shopTemplate } from '../support/shop.ts'

const database = useDatabase({ template: shopTemplate })
let pool: Pool
beforeEach(() => {
  pool = database.pool()
})
const insert = (n: number) =>
  pool.query(`INSERT INTO orders (customer, cents) SELECT 'c', n FROM generate_series(1, $1) n`, [n])
const rowsInLog = async (): Promise<number> =>
  (await pool.query('SELECT count(*)::int AS n FROM coordination.changes')).rows[0].n

describe('seek', () => {
  it('goes to the start, to a number, and to now', async () => {
    await using input = shopInput(pool, { name: 'seek' })
    await input.install()
    await insert(5)
    const first = collect(input)
    await eventually(() => first.events.length === 5)
    await input.seek('start')
    await eventually(() => first.events.length === 10)
    await input.seek({ seq: first.events[2]?.seq ?? 0n })
    await eventually(() => first.events.length === 12)
    await first.stop()
    await insert(1)
    await input.seek('now')
    const second = collect(input)
    await insert(1)
    await eventually(() => second.events.length > 0)
    await second.stop()
    expect(second.events.map(({ after }) => after && 'cents' in after && after.cents)).toEqual([1])
    expect(second.events).toHaveLength(1)
    await input.uninstall()
  })

  it('does not pass over what commits later with a lower number', async () => {
    await using input = shopInput(pool, { name: 'seek-late' })
    await input.install()
    const writer = await database.client()
    await writer.query(`BEGIN; INSERT INTO orders (customer, cents) VALUES ('late', 1)`)
    await insert(3)
    const { rows } = await pool.query('SELECT max(seq) AS seq FROM coordination.changes')
    await input.seek({ seq: BigInt(rows[0].seq) })
    const { events, stop } = collect(input)
    await writer.query('COMMIT')
    await eventually(() => events.length === 1)
    await stop()
    expect(events[0]?.after).toMatchObject({ customer: 'late' })
    await writer.end()
    await input.uninstall()
  })
})

/** A leader that looks whether there is anything to prune once a second; wait for it to have looked so many times more. */
const lookingLeader = () => {
  const { pool: leading, sent } = countedPool(database)
  const { pruneState } = upkeepStatements('coordination')
  return {
    leading,
    looks: async (more: number): Promise<void> => {
      const upTo = sent(pruneState) + more
      await eventually(() => sent(pruneState) >= upTo, { deadlineMs: 60_000, what: `${more} looks of the pruner` })
    },
  }
}

describe('pruning', () => {
  it('empties a child of the log when every input is past it, and not before', async () => {
    const { leading, looks } = lookingLeader()
    await using input = shopInput(leading, { name: 'prune' })
    await using slow = shopInput(pool, { name: 'prune-slow' })
    await input.install()
    await slow.install()
    await insert(10)
    const before = await rowsInLog()
    // The sequence leaves the block.
    await pool.query(
      `SELECT setval('coordination.changes_seq_seq', ((last_value >> 20) + 1) << 20) FROM coordination.changes_seq_seq`,
    )
    await insert(1)
    const { events, stop } = collect(input)
    await eventually(() => events.length === 11)
    // The first look takes note, the second could prune, the third shows that it did not.
    await looks(3)
    expect(await rowsInLog()).toBe(before + 1)
    const other = collect(slow)
    await eventually(() => other.events.length === 11)
    await eventually(async () => (await rowsInLog()) === 1, { deadlineMs: 25_000 })
    await other.stop()
    await stop()
    await input.uninstall()
    await slow.uninstall()
  })

  it('keeps what an input has not handled of an earlier lineage, whose transaction ids say nothing here', async () => {
    const { leading, looks } = lookingLeader()
    await using input = shopInput(leading, { name: 'prune-new' })
    await using old = shopInput(pool, { name: 'prune-old' })
    await input.install()
    await old.install()
    await insert(3)
    const before = await rowsInLog()
    // As after a restore and the rebase of another input: this one has seen far more transactions than this server has had.
    await pool.query(`
      ALTER TABLE coordination.changes ALTER COLUMN lineage SET DEFAULT 2;
      UPDATE coordination.cursors SET lineage = 2 WHERE name = 'prune-new';
      UPDATE coordination.cursors SET snap_prev = '90000000:90000000:' WHERE name = 'prune-old';
      SELECT setval('coordination.changes_seq_seq', ((last_value >> 20) + 1) << 20) FROM coordination.changes_seq_seq`)
    const { events, stop } = collect(input)
    // Rounds of upkeep, and in between a batch, which moves the leader's own cursor past the first of them.
    for (let round = 1; round <= 2; round++) {
      const handled = events.length
      await looks(1)
      await insert(1)
      await eventually(() => events.length > handled)
    }
    await looks(2)
    await stop()
    expect(await rowsInLog()).toBe(before + 2)
    await pool.query(`
      DELETE FROM coordination.changes WHERE lineage = 2;
      ALTER TABLE coordination.changes ALTER COLUMN lineage SET DEFAULT 1`)
    await input.uninstall()
    await old.uninstall()
  })

  it('does not wait for a writer, nor make one wait', async () => {
    const { leading, looks } = lookingLeader()
    await using input = shopInput(leading, { name: 'prune-busy' })
    await input.install()
    const writer = await database.client()
    await writer.query(`BEGIN; INSERT INTO orders (customer, cents) VALUES ('open', 1)`)
    await pool.query(
      `SELECT setval('coordination.changes_seq_seq', ((last_value >> 20) + 1) << 20) FROM coordination.changes_seq_seq`,
    )
    const { events, stop } = collect(input)
    await insert(2)
    await eventually(() => events.length === 2)
    await looks(3)
    await pool.query(
      `SET statement_timeout = '15s'; INSERT INTO orders (customer, cents) VALUES ('another', 1); RESET statement_timeout`,
    )
    await writer.query('COMMIT')
    await eventually(() => events.length === 4)
    await stop()
    expect(events.map(({ after }) => after && 'customer' in after && after.customer)).toContain('open')
    await writer.end()
    await input.uninstall()
  })
})

describe('retention', () => {
  it('drops what a dead input holds beyond its cap, loudly: a gap in health and lag, until a seek', async () => {
    await using dead = shopInput(pool, { name: 'dead', retention: { maxRows: 50 } })
    await dead.install()
    await using alive = shopInput(pool, { name: 'alive' })
    await alive.install()
    const { events, stop } = collect(alive)
    await insert(40)
    await eventually(() => events.length === 40)
    expect((await dead.lag()).gap).toBeNull()
    await insert(40)
    await eventually(async () => (await dead.lag()).gap !== null, { deadlineMs: 15_000 })
    const { gap } = await dead.lag()
    expect((gap?.toSeq ?? 0n) - (gap?.fromSeq ?? 0n)).toBe(79n)
    const late = collect(dead)
    await eventually(() => dead.health().status === 'gap')
    expect(dead.health().lastError).toMatchObject({ code: 'FEED_GAP', ...gap })
    await dead.seek('now')
    await insert(1)
    await eventually(() => late.events.length === 1)
    await eventually(() => dead.health().lastError === null)
    expect(dead.health().status).toBe('leading')
    expect((await dead.lag()).gap).toBeNull()
    await late.stop()
    await stop()
    await dead.uninstall()
    await alive.uninstall()
  })
})

describe('retention by age', () => {
  it('drops what nobody has handled in time', async () => {
    await using dead = shopInput(pool, { name: 'aged', retention: { maxAgeMs: 300 } })
    await dead.install()
    await using alive = shopInput(pool, { name: 'aged-alive' })
    await alive.install()
    const { stop } = collect(alive)
    await insert(1)
    await eventually(async () => (await dead.lag()).gap !== null, { deadlineMs: 15_000 })
    await stop()
    await dead.uninstall()
    await alive.uninstall()
  })
})

describe('another server', () => {
  it('refuses a log that another server wrote, and goes on after rebase() with what both lineages hold', async () => {
    await using input = shopInput(pool, { name: 'restored' })
    await input.install()
    await insert(2)
    const first = collect(input)
    await eventually(() => first.events.length === 2)
    await first.stop()
    await insert(3)
    // What a logical restore does: other identifier, rows written by one transaction of the restore, ids that mean nothing.
    await pool.query(`
      BEGIN;
      CREATE TEMP TABLE dump ON COMMIT DROP AS SELECT * FROM coordination.changes;
      TRUNCATE coordination.changes;
      INSERT INTO coordination.changes OVERRIDING SYSTEM VALUE SELECT * FROM dump;
      UPDATE coordination.cursors SET system_identifier = 1 WHERE name = 'restored';
      COMMIT`)
    // The application is back before anybody has rebased.
    await insert(4)
    await expect(input.run(() => {})).rejects.toMatchObject({ code: 'SCHEMA_OUTDATED' })
    await input.rebase()
    await insert(5)
    const second = collect(input)
    await eventually(() => second.events.length >= 12)
    await insert(1)
    await eventually(() => second.events.length >= 13)
    await second.stop()
    expect(second.events.map(({ after }) => after && 'cents' in after && after.cents)).toEqual([
      1, 2, 3, 1, 2, 3, 4, 1, 2, 3, 4, 5, 1,
    ])
    await input.uninstall()
  })

  it('is refused without ending the session that holds the cursor, which may be the rebase', async () => {
    await using input = shopInput(pool, { name: 'rebasing' })
    await input.install()
    await pool.query(`UPDATE coordination.cursors SET system_identifier = 1 WHERE name = 'rebasing'`)
    const rebasing = await database.client()
    await rebasing.query(`BEGIN; SELECT FROM coordination.cursors WHERE name = 'rebasing' FOR UPDATE`)
    await expect(input.run(() => {})).rejects.toMatchObject({ code: 'SCHEMA_OUTDATED' })
    expect((await rebasing.query('COMMIT')).command).toBe('COMMIT')
    await rebasing.end()
    await input.uninstall()
  })

  it('only takes note of the new identifier after pg_upgrade', async () => {
    await using input = shopInput(pool, { name: 'upgraded' })
    await input.install()
    await insert(1)
    await pool.query(`UPDATE coordination.cursors SET system_identifier = 1 WHERE name = 'upgraded'`)
    await input.rebase({ upgraded: true })
    const { events, stop } = collect(input)
    await eventually(() => events.length === 1)
    await stop()
    await input.uninstall()
  })
})

describe('wake-ups', () => {
  it('hears of a commit at once with notify', async () => {
    await using input = shopInput(pool, { name: 'notified', wakeUps: 'notify' })
    await input.install()
    const { events, stop } = collect(input)
    await insert(1)
    await eventually(() => events.length === 1)
    expect((await pool.query(`SELECT tgname FROM pg_trigger WHERE tgname LIKE '%notify'`)).rows).toHaveLength(1)
    await stop()
    expect((await input.uninstall()).removed).toContain('trigger 0_coordination_notify on public.orders')
  })
})

describe('leadership', () => {
  it('takes over from a leader that stands still inside its transaction', async () => {
    const locker = createMemoryLocker()
    await using input = shopInput(pool, { name: 'stuck', locker })
    await input.install()
    const stuck = await database.client()
    stuck.on('error', () => {})
    await stuck.query(`BEGIN; UPDATE coordination.cursors SET epoch = epoch WHERE name = 'stuck'`)
    const { events, stop } = collect(input)
    await insert(1)
    await eventually(() => events.length === 1)
    await expect(stuck.query('COMMIT')).rejects.toThrow()
    await stop()
    await input.uninstall()
  })

  it('lets one lead at a time, and the other when that one stops', async () => {
    const store = {}
    await using a = shopInput(pool, { name: 'pair', locker: createMemoryLocker({ store }) })
    await using b = shopInput(pool, { name: 'pair', locker: createMemoryLocker({ store }) })
    await a.install()
    const first = collect(a)
    await eventually(() => a.health().status === 'leading')
    const second = collect(b)
    await eventually(() => b.health().status === 'standby')
    await insert(1)
    await eventually(() => first.events.length === 1)
    await first.stop()
    await insert(1)
    await eventually(() => second.events.length === 1)
    expect(b.health().epoch).toBe(2n)
    await second.stop()
    await a.uninstall()
  })

  it('survives the end of its session and of every other one', async () => {
    const own = database.pool({ application_name: 'victim' })
    own.on('error', () => {})
    await using input = shopInput(own, { name: 'victim' })
    await input.install()
    const { events, stop } = collect(input)
    for (const _ of [1, 2, 3]) {
      await eventually(() => input.health().status === 'leading')
      await insert(1)
      await pool.query(
        `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'victim'`,
      )
    }
    // What a batch had been given when its session ended is given again: this handler keeps it outside of the transaction.
    await eventually(() => new Set(events.map(({ seq }) => seq)).size === 3, { deadlineMs: 15_000 })
    await stop()
    await input.uninstall()
    await own.end()
  })
})
