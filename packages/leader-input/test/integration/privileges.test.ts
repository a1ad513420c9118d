import { createMemoryLocker } from '@x/lock-core/memory'
import { eventually } from '@x/testkit'
import { useDatabase } from '@x/testkit/vitest'
import { Client, Pool } from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createLeaderInput } from '../../src/index.ts'
import { migrate } from '../../src/migrations.ts'
import { logged } from '../support/logged.ts'

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
      CREATE TEMP TABLE changes (source text[], operation text, after json, before json);
      CREATE FUNCTION pg_temp.to_json(anyelement) RETURNS json LANGUAGE sql AS 'SELECT ''"stolen"''::json';
      CREATE FUNCTION pg_temp.strpos(text, text) RETURNS int LANGUAGE sql AS 'SELECT 1/0';
      SET search_path = pg_temp, pg_catalog, public;
      INSERT INTO public.plain VALUES (50, 'real')`)
    expect((await owner.query('SELECT count(*)::int AS n FROM pg_temp.changes')).rows).toEqual([{ n: 0 }])
    expect(
      (await admin.query(`SELECT after->>'v' AS v FROM coordination.changes WHERE after->>'id' = '50'`)).rows,
    ).toEqual([{ v: 'real' }])
    await owner.end()
  })

  it('uses no function, operator, type or table that somebody puts before those of the server', async () => {
    const shapes = { plain: {}, doubly: {}, partly: { columns: ['id'] as const }, nested: {} }
    await admin.query(`
      CREATE TABLE doubly (id int, n int DEFAULT 1, v text, PRIMARY KEY (id, n)); CREATE TABLE partly (id int PRIMARY KEY, v text);
      CREATE TABLE nested (id int PRIMARY KEY, v text);
      CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
      CREATE TRIGGER nothing AFTER INSERT ON nested FOR EACH ROW EXECUTE FUNCTION nothing();
      GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON plain, doubly, partly, nested TO input_owner`)
    await using installer = createLeaderInput<Record<string, { id: number }>>({
      pool: admin,
      locker: createMemoryLocker(),
      name: 'shadowed',
      tables: shapes,
    })
    await installer.install()
    const owner = new Client({ connectionString: as('input_owner') })
    await owner.connect()
    await owner.query(`
      CREATE FUNCTION owned.refuse() RETURNS bool LANGUAGE plpgsql AS $f$ BEGIN RAISE 'ran as %', current_user; END $f$;
      CREATE TYPE owned.json AS (a text); CREATE TYPE owned.jsonb AS (a text); CREATE DOMAIN owned.int4 AS text CHECK (owned.refuse());
      CREATE DOMAIN owned.text AS pg_catalog.text CHECK (owned.refuse()); CREATE DOMAIN owned.bool AS pg_catalog.bool CHECK (owned.refuse());
      CREATE TABLE owned.changes (source pg_catalog.text[], operation pg_catalog.text, before pg_catalog.json, after pg_catalog.json);
      CREATE TABLE owned.new_rows (id int); CREATE TABLE owned.old_rows (id int)`)
    const shadow = (name: string, parameters: string, result: string): string =>
      `CREATE FUNCTION owned.${name}(${parameters}) RETURNS ${result} LANGUAGE sql AS 'SELECT NULL::${result} WHERE owned.refuse()';`
    const operator = (name: string, left: string, right: string, result: string): string =>
      `CREATE FUNCTION owned.shadow_${left}_${right}_${Buffer.from(name).toString('hex')}(pg_catalog.${left}, pg_catalog.${right}) RETURNS pg_catalog.${result} LANGUAGE sql AS 'SELECT NULL::pg_catalog.${result} WHERE owned.refuse()';
       CREATE OPERATOR owned.${name} (LEFTARG = pg_catalog.${left}, RIGHTARG = pg_catalog.${right}, FUNCTION = owned.shadow_${left}_${right}_${Buffer.from(name).toString('hex')});`
    await owner.query(`
      ${shadow('to_json', 'anyelement', 'pg_catalog.json')} ${shadow('pg_column_size', 'anyelement', 'pg_catalog.int4')}
      ${shadow('to_json', 'public.plain', 'pg_catalog.json')} ${shadow('pg_column_size', 'public.plain', 'pg_catalog.int4')}
      ${shadow('json_build_object', 'pg_catalog.text, pg_catalog.int4', 'pg_catalog.json')} ${shadow('cardinality', 'pg_catalog.text[]', 'pg_catalog.int4')}
      ${shadow('json_build_array', 'pg_catalog.json', 'pg_catalog.json')} ${shadow('array_position', 'pg_catalog.text[], pg_catalog.text', 'pg_catalog.int4')}
      ${shadow('set_config', 'pg_catalog.text, pg_catalog.text, pg_catalog.bool', 'pg_catalog.text')}
      ${shadow('current_setting', 'pg_catalog.text, pg_catalog.bool', 'pg_catalog.text')} ${shadow('unnest', 'pg_catalog.text[]', 'SETOF pg_catalog.text').replace('NULL::SETOF ', 'NULL::')}
      ${shadow('capture_rows', 'pg_catalog.text, pg_catalog.text[], pg_catalog.text[], pg_catalog.bool', 'pg_catalog.text')}
      ${shadow('capture_pairs', 'pg_catalog.text[], pg_catalog.text[], pg_catalog.bool', 'pg_catalog.text')}
      ${shadow('capture_one', 'pg_catalog.text, pg_catalog.text[], pg_catalog.text[]', 'pg_catalog.text')}
      ${operator('+', 'int4', 'int4', 'int4')} ${operator('-', 'int4', 'int4', 'int4')} ${operator('=', 'text', 'text', 'bool')}
      ${operator('<>', 'text', 'text', 'bool')} ${operator('<=', 'int4', 'int4', 'bool')} ${operator('=', 'int8', 'int8', 'bool')}
      ${operator('=', 'jsonb', 'jsonb', 'bool')} ${operator('=', 'int4', 'int4', 'bool')} ${operator('>', 'int4', 'int4', 'bool')}`)
    await admin.query('TRUNCATE coordination.changes')
    await owner.query('SET search_path = owned, pg_temp, pg_catalog')
    for (const table of Object.keys(shapes))
      await owner.query(`
        INSERT INTO public.${table} (id, v) VALUES (90, 'a'); INSERT INTO public.${table} (id, v) VALUES (91, 'b'), (92, pg_catalog.repeat('x', 600000));
        UPDATE public.${table} SET v = 'c' WHERE id OPERATOR(pg_catalog.=) 90; UPDATE public.${table} SET v = 'd' WHERE id OPERATOR(pg_catalog.>=) 90;
        DELETE FROM public.${table} WHERE id OPERATOR(pg_catalog.=) 90; DELETE FROM public.${table} WHERE id OPERATOR(pg_catalog.>) 90; TRUNCATE public.${table}`)
    const all = await logged(admin)
    for (const table of Object.keys(shapes)) {
      const ofTable = all.filter(({ location }) => location === `public.${table}`)
      expect(ofTable.map(({ operation, key }) => `${operation}${key?.id ?? ''}`).sort(), table).toEqual(
        'create90 create91 create92 delete90 delete91 delete92 truncate update90 update90 update91 update92'.split(' '),
      )
    }
    await owner.end()
  })

  it('lets nobody attach the capture functions to a table of his own', async () => {
    const owner = new Client({ connectionString: as('input_owner') })
    await owner.connect()
    await admin.query('GRANT USAGE ON SCHEMA coordination TO input_owner')
    await owner.query('CREATE TABLE owned.forged (id int)')
    await expect(
      owner.query(
        `CREATE TRIGGER x AFTER INSERT ON owned.forged REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION coordination.capture_insert('public.plain', 'id')`,
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
