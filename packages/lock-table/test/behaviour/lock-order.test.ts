import { eventually, withDatabase } from '@x/testkit'
import { useDatabase } from '@x/testkit/vitest'
import { Client, Pool } from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { migrate } from '../../src/migrations.ts'
import { tableNames } from '../../src/names.ts'
import { tableStatements } from '../../src/statements.ts'
import { blocked } from '../support/blocked.ts'

const database = useDatabase({ leakCheck: 'file' })
const s = tableStatements(tableNames('coordination', 'locks'))

/** In the order of bytes the first comes first, in that of a dictionary the last. */
const keys = ['order/B', 'order/a']

const held = `INSERT INTO coordination.locks (key, is_acquired, session_id, fencing_token, expires_at, line)
  VALUES ('order/B', true, 'owner', 1, now() + interval '1 hour', $1), ('order/a', true, 'owner', 2, now() + interval '1 hour', $1)`
const tickets = `INSERT INTO coordination.lock_waiters (key, ticket, session_id, owner, shared)
  SELECT key, $1, 'session', 'owner', false FROM coordination.locks`
const free = `INSERT INTO coordination.locks (key) VALUES ('order/B'), ('order/a')`

interface Way {
  readonly rows: string
  readonly line?: number
  readonly text: string
  /** Of two keys in the order that is asked for. */
  values(keys: readonly string[]): unknown[]
}

const owners = ['owner', 'owner']
const tokensOf = (asked: readonly string[]): number[] => asked.map((key) => 1 + keys.indexOf(key))
const one = ['name', null, 250, false]

const ways: Record<string, Way> = {
  'a grant of keys that are alike': {
    rows: free,
    text: s.grantAlike.text,
    values: (asked) => [asked, 'me', 30_000, null, ...one],
  },
  'a grant of keys that are not': {
    rows: free,
    text: s.grantFree.text,
    values: (asked) => [asked, ['me', 'me'], [30_000, 40_000], [null, null], ...one],
  },
  'a grant that knows why': {
    rows: free,
    text: s.grant.text,
    values: (asked) => [asked, ['me', 'me'], [30_000, 40_000], [null, null], ...one],
  },
  'a release': { rows: held, text: s.releaseMany.text, values: (asked) => [asked, tokensOf(asked), 'own%', 'off'] },
  'a release without our functions': {
    rows: held,
    text: s.release.text,
    values: (asked) => [asked, owners, tokensOf(asked), 'off'],
  },
  'a renewal of one ttl': {
    rows: held,
    text: s.renew.call.text,
    values: (asked) => [asked, tokensOf(asked), 'own%', null, 60_000, false],
  },
  'a renewal of several': {
    rows: held,
    text: s.renew.call.text,
    values: (asked) => [asked, tokensOf(asked), 'own%', [60_000, 70_000], null, false],
  },
  'a renewal of shared holders': {
    rows: held,
    text: s.renewShares.call.text,
    values: (asked) => [asked, owners, tokensOf(asked), null, 60_000, false],
  },
  'whatever locks rows without our functions': { rows: held, text: s.renew.lock.text, values: (asked) => [asked] },
  'those who enter the line': {
    rows: held,
    text: s.enqueue.text,
    values: (asked) => [asked, owners, [false, false], [null, null], 'name', null, 'session', 250],
  },
  'those who leave it': { rows: held, line: 1, text: s.withdraw.text, values: (asked) => [asked, [1, 1]] },
  'a hand-off': {
    rows: held,
    line: 1,
    text: s.handOff.call.text,
    values: (asked) => [asked, owners, tokensOf(asked), 2_000, 250, false, 'me'],
  },
}

// Two statements that lock the same rows in different orders wait for each other, until the server ends one of them.
describe.each(['bytes', 'a dictionary'])('where text has the order of %s', (order) => {
  const options = order === 'bytes' ? `LOCALE 'C'` : `LOCALE 'C' LOCALE_PROVIDER icu ICU_LOCALE 'en'`
  let url: string
  let pool: Pool
  beforeAll(async () => {
    const admin = database.pool({ max: 1 })
    const name = `${database.name}_${order.replaceAll(' ', '_')}`
    await admin.query(`CREATE DATABASE "${name}" TEMPLATE template0 ${options}`)
    url = withDatabase(database.url, name)
    pool = new Pool({ connectionString: url, max: 1 })
    await migrate(pool)
  })
  afterAll(async () => {
    await pool.end()
    const admin = database.pool({ max: 1 })
    const name = new URL(url).pathname.slice(1)
    // The clients say goodbye and do not wait until the server has heard it; by force they would hear of it.
    await eventually(
      async () => (await admin.query('SELECT FROM pg_stat_activity WHERE datname = $1', [name])).rows.length === 0,
      { what: 'the server to hear of the end of its clients' },
    )
    await admin.query(`DROP DATABASE "${name}"`)
  })

  it.each(Object.entries(ways))('%s locks rows in it', async (_, { rows, line = 0, text, values }) => {
    const clients = [new Client({ connectionString: url }), new Client({ connectionString: url })] as const
    const [holding, asking] = clients
    await Promise.all(clients.map((client) => client.connect()))
    try {
      await holding.query('TRUNCATE coordination.locks, coordination.lock_waiters')
      await holding.query(rows, rows === held ? [line] : [])
      if (line > 0) await holding.query(tickets, [line])
      const sorted = await holding.query('SELECT key FROM coordination.locks ORDER BY key')
      const [first, last]: string[] = sorted.rows.map(({ key }) => key)
      expect(first).toBe(order === 'bytes' ? 'order/B' : 'order/a')
      for (const asked of [keys, keys.toReversed()]) {
        await holding.query('BEGIN')
        await holding.query('SELECT FROM coordination.locks WHERE key = $1 FOR UPDATE', [first])
        await asking.query('BEGIN')
        const waiting = asking.query(text, values(asked))
        await blocked(holding, asking)
        await holding.query('SELECT FROM coordination.locks WHERE key = $1 FOR UPDATE NOWAIT', [last])
        await holding.query('ROLLBACK')
        await waiting
        await asking.query('ROLLBACK')
      }
    } finally {
      await Promise.all(clients.map((client) => client.end()))
    }
  })
})
