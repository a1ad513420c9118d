import { createMemoryLocker } from '@x/lock-core/memory'
import { eventually } from '@x/testkit'
import { useDatabase } from '@x/testkit/vitest'
import { Client, Pool } from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createLeaderInput } from '../../src/index.ts'
import { migrate } from '../../src/migrations.ts'

/** What docs/operations.md says a runtime needs, and no more. */
const runtimeGrants = `
  GRANT USAGE ON SCHEMA coordination TO input_runtime;
  GRANT SELECT ON ALL TABLES IN SCHEMA coordination TO input_runtime;
  GRANT SELECT ON SEQUENCE coordination.changes_seq_seq TO input_runtime;
  GRANT UPDATE ON coordination.cursors TO input_runtime;
  GRANT INSERT, UPDATE, DELETE ON coordination.parked_changes TO input_runtime;
  DO $$ BEGIN FOR n IN 0..15 LOOP EXECUTE format('GRANT TRUNCATE ON coordination.changes_%s TO input_runtime', n); END LOOP; END $$`
const roles = ['input_runtime', 'input_writer', 'input_owner']

const database = useDatabase({
  template: { name: 'leader-input-privileges', prepare: async (pool) => void (await migrate(pool)) },
})
const as = (role: string): string => {
  const url = new URL(database.url)
  url.username = role
  url.password = 'x'
  return url.href
}
let admin: Pool
beforeAll(async () => {
  admin = database.pool()
  for (const role of roles)
    await admin.query(
      `DO $$ BEGIN CREATE ROLE ${role} LOGIN PASSWORD 'x'; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$`,
    )
  await admin.query(`
    ${runtimeGrants};
    CREATE SCHEMA owned AUTHORIZATION input_owner; GRANT USAGE ON SCHEMA owned TO input_writer;
    CREATE TABLE plain (id int PRIMARY KEY, v text); GRANT SELECT, INSERT, UPDATE, DELETE ON plain TO input_writer;
    CREATE TABLE secret (v text); INSERT INTO secret VALUES ('hidden')`)
})
afterAll(async () => {
  await admin.query(`DROP OWNED BY ${roles.join(', ')} CASCADE`)
})

const inputAs = (pool: Pool, tables: readonly string[], name: string) =>
  createLeaderInput<Record<string, { id: number }>>({ pool, locker: createMemoryLocker(), name, tables })

describe('least privileges', () => {
  it('captures for writers that have no right on our schema, and leads as a role that owns nothing', async () => {
    await using installer = inputAs(admin, ['plain'], 'least')
    await installer.install()
    const writer = new Client({ connectionString: as('input_writer') })
    await writer.connect()
    await writer.query(`INSERT INTO plain VALUES (1, 'a'); UPDATE plain SET v = 'b'`)
    await expect(writer.query('SELECT FROM coordination.changes')).rejects.toMatchObject({ code: '42501' })
    await writer.end()
    const pool = new Pool({ connectionString: as('input_runtime') })
    const input = inputAs(pool, ['plain'], 'least')
    const seen: string[] = []
    const stop = new AbortController()
    const running = input.run((events) => void seen.push(...events.map(({ operation }) => operation)), {
      signal: stop.signal,
    })
    await eventually(() => seen.length === 2)
    expect(input.health()).toMatchObject({ status: 'leading', lastError: null, drift: [] })
    // The handler has seen them before they are committed.
    await eventually(async () => (await input.lag()).events === 0)
    expect((await input.lag()).drift).toEqual([])
    stop.abort()
    await running
    await input.close()
    await pool.end()
  })

  it('names the right that is missing', async () => {
    const pool = new Pool({ connectionString: as('input_writer') })
    const input = inputAs(pool, ['plain'], 'least')
    await expect(input.lag()).rejects.toMatchObject({ code: 'PRIVILEGE' })
    await input.close()
    await pool.end()
  })
})

describe('escalation', () => {
  it('runs a cast function of a table owner as the powerless role: it can read nothing of ours or of others', async () => {
    const owner = new Client({ connectionString: as('input_owner') })
    await owner.connect()
    await owner.query(`
      CREATE TABLE owned.found (who text, what text); GRANT INSERT ON owned.found TO PUBLIC; GRANT USAGE ON SCHEMA owned TO PUBLIC;
      CREATE TYPE owned.trap AS ENUM ('a');
      CREATE FUNCTION owned.spring(owned.trap) RETURNS json LANGUAGE plpgsql AS $f$ BEGIN
        INSERT INTO owned.found VALUES (current_user, 'ran');
        BEGIN PERFORM 1 FROM public.secret; INSERT INTO owned.found VALUES (current_user, 'read secret'); EXCEPTION WHEN insufficient_privilege THEN NULL; END;
        BEGIN PERFORM 1 FROM coordination.changes; INSERT INTO owned.found VALUES (current_user, 'read the log'); EXCEPTION WHEN insufficient_privilege THEN NULL; END;
        BEGIN UPDATE coordination.cursors SET epoch = 0; INSERT INTO owned.found VALUES (current_user, 'moved a cursor'); EXCEPTION WHEN insufficient_privilege THEN NULL; END;
        BEGIN CREATE TABLE coordination.mine (); INSERT INTO owned.found VALUES (current_user, 'created'); EXCEPTION WHEN insufficient_privilege THEN NULL; END;
        RETURN '1'; END $f$;
      CREATE CAST (owned.trap AS json) WITH FUNCTION owned.spring(owned.trap);
      CREATE TABLE owned.trapped (id int PRIMARY KEY, x owned.trap)`)
    await using installer = inputAs(admin, ['owned.trapped'], 'trap')
    await installer.install()
    // A superuser writes.
    await admin.query(`INSERT INTO owned.trapped VALUES (1, 'a')`)
    expect((await owner.query('SELECT DISTINCT who, what FROM owned.found')).rows).toEqual([
      { who: 'coordination_capture', what: 'ran' },
    ])
    await owner.end()
  })

  it('cannot be led astray by objects in the search path of the writer', async () => {
    await using installer = inputAs(admin, ['plain'], 'path')
    await installer.install()
    const owner = new Client({ connectionString: as('input_writer') })
    await owner.connect()
    await owner.query(`
      CREATE TEMP TABLE changes (relation text, operation text, key jsonb, after json, before json, old_key jsonb);
      CREATE FUNCTION pg_temp.to_json(anyelement) RETURNS json LANGUAGE sql AS 'SELECT ''"stolen"''::json';
      CREATE FUNCTION pg_temp.strpos(text, text) RETURNS int LANGUAGE sql AS 'SELECT 1/0';
      SET search_path = pg_temp, pg_catalog, public;
      INSERT INTO public.plain VALUES (50, 'real')`)
    expect((await owner.query('SELECT count(*)::int AS n FROM pg_temp.changes')).rows).toEqual([{ n: 0 }])
    expect(
      (await admin.query(`SELECT after->>'v' AS v FROM coordination.changes WHERE key->>'id' = '50'`)).rows,
    ).toEqual([{ v: 'real' }])
    await owner.end()
  })

  it('lets nobody attach the capture functions to a table of his own', async () => {
    const owner = new Client({ connectionString: as('input_owner') })
    await owner.connect()
    await admin.query('GRANT USAGE ON SCHEMA coordination TO input_owner')
    await owner.query('CREATE TABLE owned.forged (id int)')
    await expect(
      owner.query(
        `CREATE TRIGGER x AFTER INSERT ON owned.forged REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION coordination.capture_insert('public.plain', '1000', '', 'id')`,
      ),
    ).rejects.toMatchObject({ code: '42501' })
    await owner.end()
  })

  it('refuses to install while a capture function belongs to a role with power', async () => {
    await admin.query('ALTER FUNCTION coordination.capture_insert() OWNER TO CURRENT_USER')
    await using input = inputAs(admin, ['plain'], 'owner')
    await expect(input.install()).rejects.toMatchObject({
      code: 'PRIVILEGE',
      message: expect.stringMatching(/is a superuser.*OWNER TO coordination_capture/),
    })
    await admin.query(
      'GRANT CREATE ON SCHEMA coordination TO coordination_capture; ALTER FUNCTION coordination.capture_insert() OWNER TO coordination_capture; REVOKE CREATE ON SCHEMA coordination FROM coordination_capture',
    )
    await expect(input.install()).resolves.toBeDefined()
  })
})
