import { useDatabase } from '@x/testkit/vitest'
import { describe, expect, it } from 'vitest'
import { connectionSource, openSession } from '../../src/index.ts'

const database = useDatabase()
const open = (options = {}) =>
  openSession({
    source: connectionSource({ connectionString: database.url }, 'test'),
    applicationName: 'pg-session test',
    ...options,
  })

describe('session', () => {
  it('gives rows as arrays over a connection whose pid the server confirms', async () => {
    const session = await open()
    const rows = await session.query(
      { name: 'numbers', text: 'SELECT n, pg_backend_pid() FROM generate_series(1, 3) n' },
      [],
    )
    expect(rows).toEqual([1, 2, 3].map((n) => [n, session.pid]))
    await session.close()
  })
})
