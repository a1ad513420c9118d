import { createMemoryLocker } from '@x/lock-core/memory'
import { useDatabase } from '@x/testkit/vitest'
import { expect, it } from 'vitest'
import { createLeaderInput } from '../../src/index.ts'
import { shopTemplate } from '../support/shop.ts'

const database = useDatabase({ template: shopTemplate })
const inputOn = (tables: string[]) =>
  createLeaderInput<Record<string, object>>({
    pool: database.pool({ max: 1 }),
    locker: createMemoryLocker(),
    name: 'warned',
    tables,
  })

it('says at installation what works less well than it could: no key, a key that is checked late, children', async () => {
  await database.pool().query(`
    CREATE TABLE keyless (v text);
    CREATE TABLE deferred (id int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED);
    CREATE TABLE parent (id int PRIMARY KEY);
    CREATE TABLE child () INHERITS (parent)`)
  await using input = inputOn(['keyless', 'deferred', 'parent', 'orders'])
  const { warnings } = await input.install()
  expect(warnings.toSorted()).toEqual([
    expect.stringMatching(/^public\.deferred has a deferrable key: .* out of order/),
    expect.stringMatching(/^public\.keyless has no key: /),
    expect.stringMatching(/^public\.parent has children \(child\): /),
  ])
  await input.uninstall()
})

it('refuses a temporary table, which only its own session sees', async () => {
  await using input = inputOn(['fleeting'])
  await expect(input.install()).rejects.toMatchObject({ code: 'INVALID_OPTIONS' })
  const pool = database.pool({ max: 1 })
  await pool.query('CREATE TEMPORARY TABLE fleeting (id int PRIMARY KEY)')
  await using own = createLeaderInput<Record<string, object>>({
    pool,
    locker: createMemoryLocker(),
    name: 'fleeting',
    tables: ['fleeting'],
  })
  await expect(own.install()).rejects.toThrow(/fleeting cannot be captured: .*temporary/)
})
