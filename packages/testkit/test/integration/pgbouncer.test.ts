import { pgbouncer } from '@x/testkit'
import { describeWith, useDatabase } from '@x/testkit/vitest'
import { Client } from 'pg'
import { expect, it } from 'vitest'

const database = useDatabase()

describeWith('pgbouncer', 'pgbouncer', () => {
  it('pools transactions: two idle clients share a backend', async () => {
    await using pooler = await pgbouncer({ url: database.adminUrl, mode: 'transaction' })
    const backends: number[] = []
    for (let n = 0; n < 2; n += 1) {
      const client = new Client({ connectionString: pooler.url(database.url) })
      await client.connect()
      const { rows } = await client.query('SELECT pg_backend_pid() AS pid')
      backends.push(rows[0].pid)
      await client.end()
    }
    expect(backends[0]).toBe(backends[1])
  })
})
