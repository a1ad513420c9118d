import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import * as core from '../../src/index.ts'
import { CoordinationError, type ErrorCode, hasErrorCode, type LockLostReason } from '../../src/index.ts'

const documented = readFileSync(new URL('../../../../docs/errors.md', import.meta.url), 'utf8')

/** One of each code; a code without an error here does not compile. */
const examples: { readonly [C in ErrorCode]: CoordinationError & { code: ErrorCode } } = {
  LOCK_TIMEOUT: new core.LockTimeoutError({ key: 'a', waitTimeoutMs: 5 }),
  LOCK_LOST: new core.LockLostError({ key: 'a', reason: 'deadline' }),
  LOCK_NOT_HELD: new core.LockNotHeldError({ key: 'a', operation: 'release' }),
  STALE_FENCE: new core.StaleFenceError({ resource: 'a', token: 1n, newest: 2n }),
  DEADLOCK: new core.DeadlockError('deadlock'),
  POOLER_DETECTED: new core.PoolerDetectedError('a pooler'),
  UNSUPPORTED: new core.UnsupportedError('a standby'),
  SCHEMA_MISSING: new core.SchemaError('SCHEMA_MISSING', 'missing'),
  SCHEMA_OUTDATED: new core.SchemaError('SCHEMA_OUTDATED', 'outdated'),
  SCHEMA_NEWER: new core.SchemaError('SCHEMA_NEWER', 'newer'),
  PRIVILEGE: new core.PrivilegeError('GRANT'),
  NOT_IN_TRANSACTION: new core.NotInTransactionError('a pool'),
  QUERY_FAILED: new core.QueryError('syntax', { sqlState: '42601' }),
  HANDLER_FAILED: new core.HandlerError('handler', { attempts: 5 }),
  FEED_GAP: new core.FeedGapError('gap', { fromSeq: 1n, toSeq: 9n }),
  INVALID_OPTIONS: new core.ConfigurationError('option ttlMs', { option: 'ttlMs' }),
  CONNECTION: new core.ConnectionError('refused'),
  CLOSED: new core.ClosedError('table locker'),
  FENCED: new core.FencedError('epoch'),
  NODE_EVICTED: new core.NodeEvictedError('silent'),
}

describe.each(Object.entries(examples))('%s', (code, error) => {
  it('is its own code, and a CoordinationError by its class name', () => {
    expect(error.code).toBe(code)
    expect(error).toBeInstanceOf(CoordinationError)
    expect(error.name).toBe(error.constructor.name)
    expect(typeof error.retryable).toBe('boolean')
  })

  it('has a heading in docs/errors.md, with its class and whether it may be retried', () => {
    const section = documented.split(/^## /m).find((part) => part.startsWith(`${code}\n`))
    expect(section, `no heading for ${code}`).toBeDefined()
    expect(section).toContain(`\`${error.name}\``)
    expect(section?.split('\n')[2]?.includes(`\`${error.name}\`, retryable`)).toBe(error.retryable)
  })
})

describe('docs/errors.md', () => {
  it('has no heading for a code that does not exist', () => {
    const headings = [...documented.matchAll(/^## (.+)$/gm)].map(([, heading]) => heading)
    expect(headings.toSorted()).toEqual(Object.keys(examples).toSorted())
  })

  it('explains each reason of a loss', () => {
    const reasons: Record<LockLostReason, true> = {
      'session-ended': true,
      'lease-expired': true,
      deadline: true,
      forced: true,
      'max-hold': true,
      closed: true,
    }
    for (const reason of Object.keys(reasons)) expect(documented).toMatch(new RegExp(`^\\| \`${reason}\` *\\|`, 'm'))
  })
})

describe('CoordinationError', () => {
  it('carries its cause, and none when there is none', () => {
    const cause = new Error('underneath')
    expect(new core.ConnectionError('refused', { cause }).cause).toBe(cause)
    expect('cause' in new core.ConnectionError('refused')).toBe(false)
  })

  it('may be retryable against the rule of its class', () => {
    expect(new core.QueryError('busy', { retryable: true }).retryable).toBe(true)
    expect(new core.ConnectionError('refused', { retryable: false }).retryable).toBe(false)
  })

  it('shows long keys shortened and control characters escaped', () => {
    expect(new core.LockTimeoutError({ key: 'a', waitTimeoutMs: 49.306 }).message).toContain('within 50 ms')
    const { message } = new core.LockTimeoutError({ key: `line\n${'x'.repeat(5_000)}`, waitTimeoutMs: 5 })
    expect(message.length).toBeLessThan(400)
    expect(message).toContain('line\\n')
  })
})

describe('hasErrorCode', () => {
  it('knows the errors of another copy of the package by their code', () => {
    const foreign = Object.assign(new Error('lost'), { code: 'LOCK_LOST', retryable: false })
    expect(hasErrorCode(foreign, 'LOCK_LOST')).toBe(true)
    expect(hasErrorCode(foreign, 'LOCK_TIMEOUT')).toBe(false)
  })

  it('does not take anything else for one', () => {
    for (const other of [
      null,
      undefined,
      'LOCK_LOST',
      { code: 'LOCK_LOST' },
      Object.assign(new Error(), { code: 'CLOSED' }),
    ]) {
      expect(hasErrorCode(other, 'CLOSED')).toBe(false)
    }
  })
})
