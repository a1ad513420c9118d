import { useDatabase } from '@x/testkit/vitest'
import { describe, expect, it } from 'vitest'

/** What this package relies on, each fact alone. */
const database = useDatabase()

describe('transactions', () => {
  it('have one now() for all their statements, and autocommit has another for each', async () => {
    const client = await database.client()
    const now = async (): Promise<string> =>
      (await client.query('SELECT (extract(epoch FROM now()) * 1000000)::bigint::text AS at, $1::int', [1])).rows[0].at
    expect(await now()).not.toBe(await now())
    await client.query('BEGIN')
    expect(await now()).toBe(await now())
    await client.query('COMMIT')
    await client.end()
  })

  it('cannot be told from autocommit by now() = statement_timestamp() when the statement has parameters', async () => {
    const client = await database.client()
    const { rows } = await client.query('SELECT now() = statement_timestamp() AS same, $1::int', [1])
    expect(rows[0].same).toBe(false)
    await client.end()
  })
})

describe('fences', () => {
  it('ON CONFLICT DO UPDATE gives the row as it is after waiting for its lock, not as the snapshot saw it', async () => {
    const [first, second] = await Promise.all([database.client(), database.client()])
    await first.query('CREATE TABLE f (r text PRIMARY KEY, t int)')
    await first.query(`INSERT INTO f VALUES ('a', 1)`)
    await first.query('BEGIN')
    await first.query(`UPDATE f SET t = 9`)
    const waiting = second.query(
      `INSERT INTO f VALUES ('a', 5) ON CONFLICT (r) DO UPDATE SET t = greatest(f.t, excluded.t) RETURNING t`,
    )
    await first.query('COMMIT')
    expect((await waiting).rows).toEqual([{ t: 9 }])
    await Promise.all([first.end(), second.end()])
  })
})

describe('tokens', () => {
  it('nextval in DO UPDATE SET is drawn after the row is locked, in VALUES before', async () => {
    const [first, second, third] = await Promise.all([database.client(), database.client(), database.client()])
    await first.query('CREATE TABLE l (k text PRIMARY KEY, late bigint, early bigint); CREATE SEQUENCE s')
    await first.query(`INSERT INTO l VALUES ('a', 0, 0)`)
    const upsert = `INSERT INTO l VALUES ('a', 0, nextval('s')) ON CONFLICT (k) DO UPDATE
                    SET late = nextval('s'), early = excluded.early RETURNING late::int, early::int`
    await first.query('BEGIN')
    await first.query('SELECT FROM l FOR UPDATE')
    const waiting = second.query(upsert)
    // Drawn by the one that waits; then a number in between; then the lock is given.
    await third.query(`DO $$ BEGIN WHILE (SELECT NOT is_called FROM s) LOOP PERFORM pg_sleep(0.01); END LOOP; END $$`)
    const between = Number((await third.query(`SELECT nextval('s') AS n`)).rows[0].n)
    await first.query('COMMIT')
    const { late, early } = (await waiting).rows[0]
    expect(early).toBeLessThan(between)
    expect(late).toBeGreaterThan(between)
    await Promise.all([first.end(), second.end(), third.end()])
  })

  it('the start time of the server process is the same for all sessions', async () => {
    const [first, second] = await Promise.all([database.client(), database.client()])
    const start = async (client: typeof first): Promise<string> =>
      (await client.query('SELECT pg_postmaster_start_time()::text AS at')).rows[0].at
    expect(await start(first)).toBe(await start(second))
    await Promise.all([first.end(), second.end()])
  })

  it('the timeline and the system identifier can be read by any role', async () => {
    const client = await database.client()
    await client.query(
      `DO $$ BEGIN CREATE ROLE nobody_special; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$`,
    )
    await client.query('SET ROLE nobody_special')
    const { rows } = await client.query(`
      SELECT pg_walfile_name(pg_current_wal_lsn()) AS file, system_identifier::text AS id FROM pg_control_system()`)
    expect(rows[0]).toEqual({ file: expect.stringMatching(/^[0-9A-F]{24}$/), id: expect.stringMatching(/^\d+$/) })
    await client.end()
  })
})

describe('connections', () => {
  it('know their process id from the start, and it is that of the backend', async () => {
    const client = await database.client()
    const { rows } = await client.query('SELECT pg_backend_pid() AS pid')
    expect(rows[0].pid).toBe(Reflect.get(client, 'processID'))
    await client.end()
  })

  it('pass over a setting that does not exist when it is asked for as missing_ok', async () => {
    const client = await database.client()
    const { rows } = await client.query(`SELECT current_setting('no_such_setting', true) AS value`)
    expect(rows[0].value).toBe(null)
    await client.end()
  })

  it('get their own notification with the end of the transaction that sent it', async () => {
    const client = await database.client()
    const heard: string[] = []
    client.on('notification', ({ payload }) => heard.push(payload ?? ''))
    await client.query('LISTEN self')
    await client.query(`SELECT pg_notify('self', 'x')`)
    await client.query('SELECT 1')
    expect(heard).toEqual(['x'])
    await client.end()
  })
})
