import { createLeaderInput } from '@x/leader-input'
import { createMemoryLocker } from '@x/lock-core/memory'
import { Client, Pool } from 'pg'
import type { Contender } from '../benchmark.ts'
import { contender } from '../contender.ts'
import { throughput } from '../measure.ts'
import type { Surroundings } from '../surroundings.ts'

/** Prepares a table of a contender so that its writes are captured, or not. */
type Prepare = (pool: Pool, table: string) => Promise<void>

/** The table alone. */
const bare: Prepare = async () => {}

/**
 * The cheapest triggers that a team would write by hand: they store the same row into the same log, for this one table and
 * its columns, without any of our safety.
 */
const handWritten: Prepare = async (pool, table) => {
  await pool.query(`
    CREATE OR REPLACE FUNCTION ${table}_created() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
      INSERT INTO coordination.changes (source, operation, after)
      SELECT '[0:1]={public.${table},id}', 'create', to_json(n) FROM new_rows n;
      RETURN NULL; END $$;
    CREATE OR REPLACE FUNCTION ${table}_updated() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
      INSERT INTO coordination.changes (source, operation, before, after)
      SELECT '[0:1]={public.${table},id}', 'update', to_json(o), to_json(n)
        FROM old_rows o JOIN new_rows n ON n.id = o.id;
      RETURN NULL; END $$;
    CREATE TRIGGER created AFTER INSERT ON ${table} REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION ${table}_created();
    CREATE TRIGGER updated AFTER UPDATE ON ${table} REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION ${table}_updated()`)
}

const ours: Prepare = async (pool, table) => {
  await using input = createLeaderInput<Record<string, object>>({
    pool,
    locker: createMemoryLocker(),
    name: `bench-${table}`,
    tables: [table],
  })
  await input.install()
}

const open = async ({ url }: Surroundings, table: string, prepare: Prepare): Promise<Pool> => {
  const pool = new Pool({ connectionString: url, max: 2 })
  await pool.query(`DROP TABLE IF EXISTS ${table};
    CREATE TABLE ${table} (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL, price numeric NOT NULL, at timestamptz NOT NULL DEFAULT now())`)
  await prepare(pool, table)
  return pool
}

const empty = (pool: Pool, table: string): Promise<unknown> => pool.query(`TRUNCATE ${table}, coordination.changes`)

const callers = 16
const writesEach = 500

/** F1: single-row inserts or updates of 16 clients, each a transaction. */
const single = (table: string, prepare: Prepare, kind: 'insert' | 'update'): Contender =>
  contender({
    async open(surroundings) {
      const pool = await open(surroundings, table, prepare)
      const clients = Array.from({ length: callers }, () => new Client({ connectionString: surroundings.url }))
      await Promise.all(clients.map((client) => client.connect()))
      return { pool, clients }
    },
    async round({ pool, clients }) {
      await empty(pool, table)
      const name = 'a name of a thing'
      const insert = { name: 'bench_insert', text: `INSERT INTO ${table} (name, price) VALUES ($1, $2)` }
      const update = { name: 'bench_update', text: `UPDATE ${table} SET price = price + 1 WHERE id = $1` }
      if (kind === 'update') {
        await pool.query(
          `INSERT INTO ${table} (id, name, price) OVERRIDING SYSTEM VALUE
           SELECT n, $1, 12.5 FROM generate_series(1, ${callers * writesEach}) n`,
          [name],
        )
        await pool.query(`VACUUM ANALYZE ${table}`)
      }
      return throughput(callers * writesEach, () =>
        Promise.all(
          clients.map(async (client, caller) => {
            for (let i = 1; i <= writesEach; i += 1)
              await client.query(
                kind === 'insert'
                  ? { ...insert, values: [name, 12.5] }
                  : { ...update, values: [caller * writesEach + i] },
              )
          }),
        ),
      )
    },
    async close({ pool, clients }) {
      await Promise.all(clients.map((client) => client.end()))
      await pool.end()
    },
  })

const bulkRows = 200_000

/** F2: one statement over 200,000 rows. */
const bulk = (table: string, prepare: Prepare, kind: 'insert' | 'update'): Contender =>
  contender({
    open: (surroundings) => open(surroundings, table, prepare),
    async round(pool) {
      await empty(pool, table)
      const insert = `INSERT INTO ${table} (name, price) SELECT 'thing ' || n, n FROM generate_series(1, ${bulkRows}) n`
      if (kind === 'insert') return throughput(bulkRows, () => pool.query(insert))
      await pool.query(insert)
      return throughput(bulkRows, () => pool.query(`UPDATE ${table} SET price = price + 1`))
    },
    close: (pool) => pool.end(),
  })

export const singleWriteContenders = (kind: 'insert' | 'update'): Readonly<Record<string, Contender>> => ({
  bare: single(`f1_${kind}_bare`, bare, kind),
  'hand-written trigger': single(`f1_${kind}_hand`, handWritten, kind),
  ours: single(`f1_${kind}_ours`, ours, kind),
})

export const bulkContenders = (kind: 'insert' | 'update'): Readonly<Record<string, Contender>> => ({
  bare: bulk(`f2_${kind}_bare`, bare, kind),
  'hand-written trigger': bulk(`f2_${kind}_hand`, handWritten, kind),
  ours: bulk(`f2_${kind}_ours`, ours, kind),
})
