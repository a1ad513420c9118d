import { useDatabase } from '@x/testkit/vitest'
import { expect, it } from 'vitest'

const database = useDatabase({
  template: {
    name: 'use-database-test',
    prepare: async (pool) => {
      await pool.query('CREATE TABLE seen (n int)')
    },
  },
})

it('gives a file a database of its own, made from its template', async () => {
  await database.pool().query('INSERT INTO seen VALUES (1)')
  const other = await database.another()
  const here = await database.pool().query('SELECT n FROM seen')
  const there = await other.pool().query('SELECT n FROM seen')
  expect([here.rowCount, there.rowCount]).toEqual([1, 0])
})
