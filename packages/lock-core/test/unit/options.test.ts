import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { z } from 'zod'
import { checkAcquireOptions, checkKey, checkKeys, parseOptions } from '../../src/adapter/index.ts'
import { type AcquireOptions, ConfigurationError, type LockerCapabilities } from '../../src/index.ts'

const capabilities: LockerCapabilities = {
  modes: ['exclusive'],
  fencing: 'none',
  lease: false,
  fifo: 'process',
  durable: false,
  crossProcess: true,
  lossNotice: 'best-effort',
}
const locker = { capabilities, ttlMs: 30_000 }

function messageOf(call: () => unknown): string {
  try {
    call()
  } catch (error) {
    expect(error).toBeInstanceOf(ConfigurationError)
    return (error as ConfigurationError).message
  }
  return expect.fail('did not throw')
}

describe('parseOptions', () => {
  const schema = z.object({
    pollMs: z.number().min(10).default(900),
    connectionString: z.string().startsWith('postgres').optional(),
    retention: z.object({ maxRows: z.int() }).optional(),
    connection: z.object({ password: z.string() }).optional(),
  })

  it('fills in defaults', () => {
    expect(parseOptions(schema, {}, 'create')).toEqual({ pollMs: 900 })
  })

  it('shows the value of the option that a rule over several of them is about', () => {
    const related = z
      .object({ ttlMs: z.number(), heartbeatMs: z.number() })
      .refine(({ ttlMs, heartbeatMs }) => ttlMs >= 3 * heartbeatMs, {
        path: ['ttlMs'],
        error: 'expected at least three times heartbeatMs',
      })
    expect(messageOf(() => parseOptions(related, { ttlMs: 3_000, heartbeatMs: 2_000 }, 'create'))).toBe(
      'create: option ttlMs: expected at least three times heartbeatMs; got 3000',
    )
  })

  it('names the function, the option, what was expected and what was got', () => {
    const message = messageOf(() => parseOptions(schema, { retention: { maxRows: 'many' } }, 'createThing'))
    expect(message).toContain('createThing')
    expect(message).toContain('retention.maxRows')
    expect(message).toContain('expected')
    expect(message).toContain('"many"')
    expect(() => parseOptions(schema, { pollMs: 1 }, 'createThing')).toThrow(
      expect.objectContaining({ option: 'pollMs' }),
    )
  })

  it('never shows what may be a password', () => {
    const secret = 'hunter2'
    for (const options of [
      { connectionString: `mysql://me:${secret}@host` },
      { connection: { password: [secret] } },
      { connection: `postgres://me:${secret}@host` },
      // Where an object of options, or a number, was expected.
      `postgres://me:${secret}@host`,
      { pollMs: `postgres://me:${secret}@host` },
      `host=db password=${secret}`,
    ]) {
      expect(messageOf(() => parseOptions(schema, options, 'create'))).not.toContain(secret)
    }
  })

  it('refuses an option that does not exist, and names the one that was meant', () => {
    const strict = z.strictObject({
      pollMs: z.number().default(900),
      connection: z.string().optional(),
      retention: z.strictObject({ maxRows: z.int() }).default({ maxRows: 1 }),
    })
    expect(messageOf(() => parseOptions(strict, { pollms: 1 }, 'createThing'))).toBe(
      'createThing: option pollms: there is no such option; did you mean pollMs?',
    )
    expect(messageOf(() => parseOptions(strict, { conection: 'x' }, 'create'))).toContain('did you mean connection?')
    expect(messageOf(() => parseOptions(strict, { retention: { maxRow: 1 } }, 'create'))).toContain(
      'option retention.maxRow: there is no such option; did you mean maxRows?',
    )
    expect(messageOf(() => parseOptions(strict, { colour: 'red' }, 'create'))).not.toContain('did you mean')
    expect(() => parseOptions(strict, { ['x'.repeat(1e7)]: 1 }, 'create')).toThrow(ConfigurationError)
  })

  it.each([
    [{ pollMs: 'soon' }, 'create: option pollMs: expected a number; got "soon"'],
    [{ pollMs: 1 }, 'create: option pollMs: expected a number to be >=10; got 1'],
    [{ retention: {} }, 'create: option retention.maxRows: expected a number; got nothing'],
    [{ wait: 'never' }, 'create: option wait: expected one of "poll"|"notify"; got "never"'],
  ])('says of %j what was expected and what was got, once each', (options, message) => {
    const withChoice = schema.extend({ wait: z.enum(['poll', 'notify']).optional() })
    expect(messageOf(() => parseOptions(withChoice, options, 'create'))).toBe(message)
  })

  it('names the option that was meant inside of records and unions', () => {
    const nested = z.strictObject({
      tables: z.union([
        z.array(z.string()),
        z.strictObject({ patterns: z.array(z.string()) }),
        z.record(z.string(), z.strictObject({ operations: z.array(z.string()).optional() })),
      ]),
    })
    expect(messageOf(() => parseOptions(nested, { tables: { orders: { operation: ['update'] } } }, 'create'))).toBe(
      'create: option tables.orders.operation: there is no such option; did you mean operations?',
    )
  })

  it.each([
    [undefined, 'nothing'],
    [null, 'null'],
    [7, '7'],
    ['x', '"x"; write { connectionString: … }'],
    [[], 'an empty array'],
    [[1], 'an array'],
    [() => {}, 'a function'],
  ])('refuses %s for options, in one sentence', (value, got) => {
    expect(messageOf(() => parseOptions(schema, value, 'create'))).toBe(
      `create: expected an object of options; got ${got}`,
    )
  })
})

describe('parseOptions of what is itself one of the options', () => {
  const connected = z.strictObject({ pool: z.unknown().optional(), connectionString: z.string().optional() })
  class Pool {
    readonly idle = []
    connect(): void {}
  }

  it.each<[unknown, string]>([
    [new Pool(), 'an instance of Pool; write { pool: … }'],
    ['postgres://app:hunter2@db/app', 'a value of type string; write { connectionString: … }'],
  ])('says where it belongs: %s', (value, got) => {
    const message = messageOf(() => parseOptions(connected, value, 'create'))
    expect(message).toBe(`create: expected an object of options; got ${got}`)
  })
})

describe('checkAcquireOptions', () => {
  it('fills in defaults', () => {
    expect(checkAcquireOptions(undefined, locker)).toEqual({
      mode: 'exclusive',
      ttlMs: 30_000,
      renew: 'auto',
      maxHoldMs: Number.POSITIVE_INFINITY,
      minHoldMs: 0,
      waitTimeoutMs: Number.POSITIVE_INFINITY,
      metadata: null,
      signal: undefined,
    })
  })

  it('refuses an option that does not exist, and names the one that was meant', () => {
    const mistyped: object = { waitTimeoutMS: 5 }
    expect(messageOf(() => checkAcquireOptions(mistyped, locker))).toContain('did you mean waitTimeoutMs?')
    for (const [slip, meant] of [
      ['timeout', 'waitTimeoutMs'],
      ['timeoutMs', 'waitTimeoutMs'],
      ['ttl', 'ttlMs'],
      ['maxHold', 'maxHoldMs'],
    ]) {
      expect(messageOf(() => checkAcquireOptions({ [String(slip)]: 5 }, locker))).toContain(`did you mean ${meant}?`)
    }
    expect(messageOf(() => checkAcquireOptions({ colour: 5 } as AcquireOptions, locker))).toBe(
      'option colour: there is no such option; remove it, or take one of mode, ttlMs, renew, maxHoldMs, minHoldMs, waitTimeoutMs, metadata, signal',
    )
  })

  it('refuses a number, which might be meant for a timeout', () => {
    expect(messageOf(() => checkAcquireOptions(5_000 as AcquireOptions, locker))).toBe(
      'expected an object of options, such as { ttlMs: 30_000 }; got 5000',
    )
  })

  it.each<[string, unknown]>([
    ['mode', { mode: 'shared' }],
    ['mode', { mode: null }],
    ['ttlMs', { ttlMs: 99 }],
    ['ttlMs', { ttlMs: null }],
    ['renew', { renew: true }],
    ['maxHoldMs', { maxHoldMs: -1 }],
    ['minHoldMs', { minHoldMs: 10 }],
    ['waitTimeoutMs', { waitTimeoutMs: '1' }],
    ['metadata', { metadata: 'text' }],
    ['metadata', { metadata: ['a'] }],
    ['metadata.a', { metadata: { a: null } }],
    ['metadata.a', { metadata: { a: '\ud800' } }],
    ['metadata', { metadata: { a: 'x'.repeat(4_096) } }],
    ['signal', { signal: { aborted: false } }],
  ])('names %s', (option, options) => {
    expect(() => checkAcquireOptions(options as AcquireOptions, locker)).toThrow(
      expect.objectContaining({ code: 'INVALID_OPTIONS', option }),
    )
  })

  it('takes a prototype-polluting name in metadata for what it is: a name', () => {
    const metadata = JSON.parse('{"__proto__":"x","constructor":"y"}')
    expect(checkAcquireOptions({ metadata }, locker).metadata).toBe(metadata)
    expect(Object.getPrototypeOf({})).toBe(Object.prototype)
  })
})

describe('checkKey', () => {
  it('accepts exactly the well-formed strings of 1 to 1024 bytes without NUL', () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string({ unit: 'binary', maxLength: 600 }),
          fc.string({ unit: fc.nat(0xffff).map((unit) => String.fromCharCode(unit)), maxLength: 600 }),
        ),
        (key) => {
          const good = key.length > 0 && key.isWellFormed() && !key.includes('\0') && Buffer.byteLength(key) <= 1_024
          const verdict = (() => {
            try {
              checkKey(key)
              return true
            } catch {
              return false
            }
          })()
          return verdict === good
        },
      ),
      { numRuns: 1_000 },
    )
  })

  it.each([undefined, null, 'orders', {}, new Set(['orders'])])('of several takes an array: %j', (keys) => {
    expect(() => checkKeys(keys as never)).toThrow(expect.objectContaining({ code: 'INVALID_OPTIONS', option: 'keys' }))
    expect(() => checkKeys(['orders', ''])).toThrow(expect.objectContaining({ option: 'key' }))
  })

  it('does not choke on a key of 10 MB', () => {
    expect(() => checkKey('x'.repeat(10_000_000))).toThrow(expect.objectContaining({ option: 'key' }))
  })
})
