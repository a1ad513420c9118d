import { primaryWithStandby, withAdmin } from '@x/testkit'
import { expect, it } from 'vitest'

it('a standby that misses the last commits is promoted, and both servers take writes', async () => {
  await using servers = await primaryWithStandby()
  const { primary, standby, replication } = servers
  const run = (url: string, sql: string): Promise<unknown[]> =>
    withAdmin(url, async (client) => (await client.query({ text: sql, rowMode: 'array' })).rows.flat())
  await run(primary.url, 'CREATE TABLE seen (n int)')
  await run(primary.url, 'INSERT INTO seen VALUES (1)')
  await servers.caughtUp()
  expect(await run(standby.url, 'SELECT n FROM seen')).toEqual([1])
  await expect(run(standby.url, 'INSERT INTO seen VALUES (9)')).rejects.toThrow('read-only')

  replication.refuse()
  replication.cut()
  await run(primary.url, 'INSERT INTO seen VALUES (2)')
  await servers.promote()
  await run(standby.url, 'INSERT INTO seen VALUES (3)')
  expect(await run(standby.url, 'SELECT n FROM seen ORDER BY n')).toEqual([1, 3])
  expect(await run(primary.url, 'SELECT n FROM seen ORDER BY n')).toEqual([1, 2])
})
