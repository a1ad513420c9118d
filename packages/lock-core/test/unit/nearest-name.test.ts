import { describe, expect, it } from 'vitest'
import { nearestName } from '../../src/adapter/nearest-name.ts'

describe('nearestName', () => {
  const names = ['pollMs', 'idleMs', 'ttlMs', 'connection', 'connectionString', 'stopTimeoutMs', 'waitTimeoutMs']
  it.each([
    ['pollms', 'pollMs'],
    ['polMs', 'pollMs'],
    ['idelMs', 'idleMs'],
    ['connectionstring', 'connectionString'],
    ['Connection', 'connection'],
    ['ttl', 'ttlMs'],
    ['defaultTtlMs', 'ttlMs'],
    ['timeoutMs', 'stopTimeoutMs'],
    ['waitTimeout', 'waitTimeoutMs'],
    ['timeout', 'stopTimeoutMs'],
    ['Ms', null],
    ['', null],
    ['somethingElse', null],
    ['x'.repeat(100_000), null],
  ])('%s is %s', (given, meant) => {
    expect(nearestName(given, names)).toBe(meant)
  })
})
