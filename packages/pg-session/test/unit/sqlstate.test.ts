import { ConnectionError, LockLostError } from '@x/lock-core'
import { describe, expect, it } from 'vitest'
import { fromConnectError, fromPgError, isConflict, sqlStateOf } from '../../src/index.ts'

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
    expect(error.message).toContain('said the server')
    expect(error.message).toMatch(/ \(statement grant\)$/)
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

  it.each([
    ['ECONNREFUSED', 'check that it runs, and the host and port', true],
    ['ENOTFOUND', 'check the host', true],
    ['ECONNRESET', 'may have been carried out', true],
    ['08006', 'may have been carried out', true],
    ['08P01', 'its log say why', true],
    ['28P01', 'check user and password', false],
    ['3D000', 'create it, or correct the name', false],
    ['53300', 'lower max of your pools', true],
    ['57P03', 'try again', true],
    ['UNABLE_TO_VERIFY_LEAF_SIGNATURE', 'ssl.ca', false],
    ['ERR_SSL_WRONG_VERSION_NUMBER', 'set ssl', false],
  ])('says what to do about %s', (code, advice, retryable) => {
    const error = fromPgError(serverError(code), 'x')
    expect(error).toMatchObject({ code: 'CONNECTION', retryable })
    expect(error.message).toMatch(/^database connection: expected .+, got: said the server; .+ \(x\)$/)
    expect(error.message).toContain(advice)
  })

  it.each([
    ['SASL: SCRAM-SERVER-FIRST-MESSAGE: client password must be a string', 'check user and password'],
    ['The server does not support SSL connections', 'set ssl'],
    ['Cannot use a pool after calling end on the pool', 'end it after everything'],
    ['timeout expired', 'check that it runs'],
  ])('says what to do about what the driver says without a code: %s', (message, advice) => {
    const error = fromPgError(new Error(message), 'x')
    expect(error.code).toBe('CONNECTION')
    expect(error.message).toContain(advice)
  })

  it('takes what nobody knows for a failure of the connection only while connecting', () => {
    expect(fromPgError(new Error('no token'), 'x')).toMatchObject({ code: 'QUERY_FAILED' })
    const error = fromConnectError(new Error('no token'), 'x')
    expect(error).toMatchObject({ code: 'CONNECTION', message: expect.stringContaining('got: no token') })
    expect(fromConnectError(serverError('42501'), 'x')).toMatchObject({ code: 'PRIVILEGE' })
  })

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
    expect(fromPgError('a string', 'x')).toMatchObject({ code: 'QUERY_FAILED', message: 'a string (x)' })
    expect(fromPgError(null, 'x')).toMatchObject({ code: 'QUERY_FAILED' })
  })
})
