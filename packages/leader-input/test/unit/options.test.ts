import { createMemoryLocker } from '@x/lock-core/memory'
import { describe, expect, expectTypeOf, it } from 'vitest'
import { type ChangeEvent, createLeaderInput, type LeaderInputOptions } from '../../src/index.ts'

interface Shop {
  orders: { id: string; total: number; placed_at: Date; size: bigint; tags: string[] }
  customers: { id: number; name: string | null }
}
const pool = { connect: async () => Promise.reject(new Error('no I/O is expected')), options: {} }
const make = (options: object) =>
  createLeaderInput<Shop>({
    pool,
    locker: createMemoryLocker(),
    name: 'n',
    tables: ['orders'],
    ...options,
  } as LeaderInputOptions<Shop>)

describe('options', () => {
  it.each([
    ['pool', { pool: undefined }],
    ['pool', { connectionString: 'postgres://u:secret@h/d' }],
    ['locker', { locker: {} }],
    ['name', { name: '' }],
    ['name', { name: 'a\0b' }],
    ['tables', { tables: [] }],
    ['batchSize', { batchSize: 0 }],
    ['batchSize', { batchSize: Number.NaN }],
    ['maxBatchBytes', { maxBatchBytes: -1 }],
    ['onFailure', { onFailure: 'ignore' }],
    ['maxAttempts', { maxAttempts: 1.5 }],
    ['takeoverMs', { takeoverMs: 1 }],
    ['retention.maxRows', { retention: { maxRows: 0 } }],
    ['operations.0', { operations: ['upsert'] }],
  ])('refuses a wrong %s before any I/O, naming it', (option, options) => {
    expect(() => make(options)).toThrow(expect.objectContaining({ code: 'INVALID_OPTIONS', option }))
  })

  it('never shows a password', () => {
    expect(() => make({ pool: undefined, connectionString: 'postgres://u:secret@h/d', name: '' })).toThrow(
      expect.objectContaining({ message: expect.not.stringContaining('secret') }),
    )
  })

  it('refuses use after close', async () => {
    const input = make({})
    await input.close()
    await input.close()
    await expect(input.lag()).rejects.toMatchObject({ code: 'CLOSED' })
    await expect(input.run(() => {})).rejects.toMatchObject({ code: 'CLOSED' })
    expect(() => input.events()).toThrow(expect.objectContaining({ code: 'CLOSED' }))
  })
})

it('types events by table and operation', () => {
  const check = (event: ChangeEvent<Shop>): void => {
    if (event.table === 'orders' && event.operation === 'create') {
      expectTypeOf(event.before).toEqualTypeOf<null>()
      expectTypeOf<NonNullable<typeof event.after>['placed_at']>().toEqualTypeOf<string>()
      expectTypeOf<NonNullable<typeof event.after>['size']>().toEqualTypeOf<string>()
      expectTypeOf<NonNullable<typeof event.after>['tags']>().toEqualTypeOf<readonly string[]>()
    }
    if (event.table === 'customers' && event.operation === 'delete') {
      expectTypeOf(event.after).toEqualTypeOf<null>()
      expectTypeOf<NonNullable<typeof event.before>['name']>().toEqualTypeOf<string | null>()
    }
  }
  expectTypeOf(check).parameter(0).toEqualTypeOf<ChangeEvent<Shop>>()
})
