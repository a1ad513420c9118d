import { readFileSync } from 'node:fs'
import * as cluster from '@x/cluster-discovery'
import * as input from '@x/leader-input'
import * as advisory from '@x/lock-advisory'
import * as core from '@x/lock-core'
import * as conformance from '@x/lock-core/conformance'
import * as memory from '@x/lock-core/memory'
import * as table from '@x/lock-table'
import * as tableMigrations from '@x/lock-table/migrations'
import { expect, test } from 'vitest'

// public-api.types.ts holds the types, at compile time; this holds that each declared function is there at run time.
const declared = [
  ...readFileSync(new URL('../fixtures/public-api.ts', import.meta.url), 'utf8').matchAll(
    /^export declare function (\w+)/gm,
  ),
].map(([, name]) => name ?? '')

test.each([...new Set(declared)])('%s is exported', (name) => {
  const everything: Readonly<Record<string, unknown>> = {
    ...core,
    ...memory,
    ...conformance,
    ...table,
    ...tableMigrations,
    ...advisory,
    ...cluster,
    ...input,
  }
  expect(everything[name]).toBeTypeOf('function')
})

test('every error class of the house has its code', () => {
  const errors = Object.entries(core).filter(([name]) => name.endsWith('Error'))
  expect(errors.map(([name]) => name).sort()).toEqual([
    'ClosedError',
    'ConfigurationError',
    'ConnectionError',
    'CoordinationError',
    'DeadlockError',
    'FeedGapError',
    'FencedError',
    'HandlerError',
    'LockLostError',
    'LockNotHeldError',
    'LockTimeoutError',
    'NodeEvictedError',
    'NotInTransactionError',
    'PoolerDetectedError',
    'PrivilegeError',
    'QueryError',
    'SchemaError',
    'StaleFenceError',
    'UnsupportedError',
  ])
})
