import { createMemoryLocker } from '@x/lock-core/memory'
import { expect, expectTypeOf, it } from 'vitest'
import type { OperationName } from '../../src/index.ts'
import { resolveOptions } from '../../src/options.ts'

it("takes 'insert' and 'remove' for 'create' and 'delete', in the types too", () => {
  const operations: readonly OperationName[] = ['insert', 'remove', 'update']
  const options = {
    connectionString: 'postgres://localhost/nowhere',
    locker: createMemoryLocker(),
    name: 'test',
    tables: { orders: { operations: ['insert'] as const } },
    operations,
  }
  const resolved = resolveOptions<{ orders: { id: number } }>(options)
  expect(resolved.operations).toEqual(['create', 'delete', 'update'])
  expect(resolved.tables).toMatchObject({ kind: 'named', tables: new Map([['orders', { operations: ['create'] }]]) })
  expectTypeOf<'insert' | 'remove'>().toExtend<OperationName>()
})
