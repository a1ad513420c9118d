import { ConnectionError, LockLostError } from '@x/lock-core'
import { describe, expect, it } from 'vitest'
import { fromPgError, isConflict, sqlStateOf } from '../../src/index.ts'

const serverError = (code: string, message = 'said the server'): Error =>
  Object.assign(new Error(message), { code, severity: 'ERROR' })

describe('fromPgError', () => {
  it.each([
    ['40P01', 'DEADLOCK', true],
    ['40001', 'QUERY_FAILED', true],
    ['55P03', 'QUERY_FAILED', true],
    ['57014', 'QUERY_FAILED', true],
    ['23505', 'QUERY_FAILED', false],
    ['42601', 'QUERY_FAILED', false],
    ['42501', 'PRIVILEGE', false],
    ['42P01', 'SCHEMA_MISSING', false],
    ['3F000', 'SCHEMA_MISSING', false],
    ['42883', 'SCHEMA_MISSING', false],
    ['42703', 'SCHEMA_OUTDATED', false],
    ['0A000', 'UNSUPPORTED', false],
    ['25006', 'UNSUPPORTED', true],
    ['57P01', 'CONNECTION', true],
    ['57P03', 'CONNECTION', true],
    ['53300', 'CONNECTION', true],
    ['08006', 'CONNECTION', true],
    ['28P01', 'CONNECTION', false],
    ['3D000', 'CONNECTION', false],
    ['ECONNREFUSED', 'CONNECTION', true],
    ['EPIPE', 'CONNECTION', true],
    ['ETIMEDOUT', 'CONNECTION', true],
  ])('gives %s as %s, retryable: %s', (code, expected, retryable) => {
    const cause = serverError(code)
    const error = fromPgError(cause, 'statement grant')
    expect(error).toMatchObject({ code: expected, retryable, cause })
    expect(error.message).toContain('statement grant: said the server')
  })

  it('keeps the SQLSTATE, on ours and through the cause', () => {
    expect(fromPgError(serverError('22012'), 'x')).toMatchObject({ sqlState: '22012' })
    expect(sqlStateOf(fromPgError(serverError('42P01'), 'x'))).toBe('42P01')
    expect(sqlStateOf(new Error('none'))).toBe(null)
    expect(sqlStateOf(undefined)).toBe(null)
    expect(isConflict(fromPgError(serverError('40P01'), 'x'))).toBe(true)
    expect(isConflict(fromPgError(serverError('23505'), 'x'))).toBe(false)
  })

  it.each(['Connection terminated unexpectedly', 'timeout expired', 'Client was closed and is not queryable'])(
    'knows the driver’s words for a connection that is gone: %s',
    (message) => {
      expect(fromPgError(new Error(message), 'x')).toMatchObject({ code: 'CONNECTION', retryable: true })
    },
  )

  it('names the GRANT', () => {
    const denied = serverError('42501', 'permission denied for sequence fencing_tokens')
    expect(fromPgError(denied, 'x').message).toContain('GRANT USAGE ON SEQUENCE fencing_tokens TO')
    expect(fromPgError(serverError('42501', 'must be owner of table a'), 'x').message).toContain('GRANT')
  })

  it('looks into the errors of all addresses of a host', () => {
    const refused = Object.assign(new Error('connect ECONNREFUSED 127.0.0.1:1'), { code: 'ECONNREFUSED' })
    const error = fromPgError(new AggregateError([refused, refused]), 'connecting')
    expect(error).toMatchObject({ code: 'CONNECTION' })
    expect(error.message).toContain('ECONNREFUSED 127.0.0.1:1')
  })

  it('lets ours pass, and takes whatever else is thrown', () => {
    const ours = new LockLostError({ key: 'k', reason: 'deadline' })
    expect(fromPgError(ours, 'x')).toBe(ours)
    const connection = new ConnectionError('gone')
    expect(fromPgError(connection, 'x')).toBe(connection)
    expect(fromPgError('a string', 'x')).toMatchObject({ code: 'QUERY_FAILED', message: 'x: a string' })
    expect(fromPgError(null, 'x')).toMatchObject({ code: 'QUERY_FAILED' })
  })
})
