import { z } from 'zod'
import { ConfigurationError } from '../errors.ts'
import type { AcquireOptions, LockerCapabilities, LockMode } from '../locker.ts'
import { describeValue } from './describe-value.ts'
import { nearestName } from './nearest-name.ts'

/**
 * Parses options at a public entry point. Objects of options are `z.strictObject`: an option that does not exist is a
 * mistyped one, and what it should have changed would go unnoticed.
 * @param where the function the caller called, such as `createTableLocker`
 * @throws {ConfigurationError} naming the option, what was expected and what was got; values of secrets are not shown
 */
export function parseOptions<S extends z.ZodType>(schema: S, value: unknown, where: string): z.output<S> {
  const parsed = schema.safeParse(value, { reportInput: true })
  if (parsed.success) return parsed.data
  const { issues } = parsed.error
  // First: a required option that is missing is mostly one that was mistyped.
  const issue = issues.find(({ code }) => code === 'unrecognized_keys') ?? issues[0]
  const path = issue?.path.map(String) ?? []
  // A pool for its options, say: what it has besides is no mistyped option.
  if (path.length === 0 && (!isRecord(value) || (issue?.code === 'unrecognized_keys' && isInstance(value)))) {
    throw noOptions(value, where, optionsAt(schema, []))
  }
  if (issue?.code === 'unrecognized_keys') {
    const [unknown = ''] = issue.keys
    throw unknownOption([...path, unknown].join('.'), unknown, optionsAt(schema, path), `${where}: `)
  }
  const option = path.length > 0 ? path.join('.') : null
  // Not the input of the issue, which is the whole object where a rule spans several options.
  const got = issue === undefined ? '' : `; got ${describeValue(valueAt(value, path), path)}`
  throw new ConfigurationError(
    `${where}: ${option === null ? 'options' : `option ${option}`}: ${expectation(issue?.message ?? 'invalid')}${got}`,
    { option },
  )
}

/** Of zod's own sentences only what was expected: what was got is said once, by us. */
function expectation(message: string): string {
  return message
    .replace(/^(?:Invalid input|Invalid option|Too small|Too big): (?=expected )/, '')
    .replace(/, received .*$/, '')
    .replace(/^expected (?=(?:string|number|boolean|bigint|function)\b)/, 'expected a ')
    .replace(/^expected (?=(?:object|array)\b)/, 'expected an ')
    .replace(/^expected int\b/, 'expected an integer')
}

function valueAt(value: unknown, path: readonly string[]): unknown {
  return path.reduce((at, name) => (typeof at === 'object' && at !== null ? Reflect.get(at, name) : undefined), value)
}

/** The names of the options at the end of the path; none where the schema has no objects there. */
function optionsAt(schema: unknown, path: readonly string[]): readonly string[] {
  let at = schema
  while (at instanceof z.ZodOptional || at instanceof z.ZodDefault || at instanceof z.ZodNullable) at = at.unwrap()
  if (at instanceof z.ZodUnion) return at.options.flatMap((one) => optionsAt(one, path))
  const [next, ...rest] = path
  if (at instanceof z.ZodObject) return next === undefined ? Object.keys(at.shape) : optionsAt(at.shape[next], rest)
  return at instanceof z.ZodRecord && next !== undefined ? optionsAt(at.valueType, rest) : []
}

/**
 * Refuses what is no object, and an option that is not one of `names`: for options that no schema describes.
 * @throws {ConfigurationError} naming it, and the one that was probably meant
 */
export function checkOptionNames(options: unknown, names: Iterable<string>, where: string): void {
  if (typeof options !== 'object' || options === null) throw noOptions(options, where)
  const known = new Set(names)
  for (const option of Object.keys(options)) {
    if (!known.has(option)) throw unknownOption(option, option, [...known], `${where}: `)
  }
}

/** @param names of the options there are, to say which one the value may be meant for */
function noOptions(value: unknown, where: string, names: readonly string[] = []): ConfigurationError {
  const isPool = isRecord(value) && 'connect' in value && !('connectionParameters' in value)
  const meant = typeof value === 'string' ? 'connectionString' : isPool ? 'pool' : null
  const hint = meant !== null && names.includes(meant) ? `; write { ${meant}: … }` : ''
  return new ConfigurationError(`${where}: expected an object of options; got ${describeValue(value)}${hint}`)
}

/** @param name the last part of `option`, which may be one of `names` mistyped */
function unknownOption(option: string, name: string, names: readonly string[], where = ''): ConfigurationError {
  const nearest = nearestName(name, names)
  const hint = nearest !== null ? `did you mean ${nearest}?` : `remove it, or take one of ${names.join(', ')}`
  return new ConfigurationError(`${where}option ${option}: there is no such option; ${hint}`, { option })
}

function isRecord(value: unknown): value is object {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function isInstance(value: object): boolean {
  const prototype: unknown = Object.getPrototypeOf(value)
  return prototype !== null && prototype !== Object.prototype
}

/** Options of an acquire with every default filled in. */
export interface ResolvedAcquireOptions {
  readonly mode: LockMode
  readonly ttlMs: number
  readonly renew: 'auto' | 'manual'
  readonly maxHoldMs: number
  readonly minHoldMs: number
  readonly waitTimeoutMs: number
  readonly metadata: Readonly<Record<string, string>> | null
  readonly signal: AbortSignal | undefined
}

const acquireOptions: ReadonlySet<string> = new Set([
  'mode',
  'ttlMs',
  'renew',
  'maxHoldMs',
  'minHoldMs',
  'waitTimeoutMs',
  'metadata',
  'signal',
] satisfies (keyof AcquireOptions)[])

/**
 * Checks the options of `acquire` and `tryAcquire` and fills in the defaults. Written by hand, because it runs on every
 * acquire.
 * @throws {ConfigurationError}
 */
export function checkAcquireOptions(
  options: AcquireOptions | undefined,
  locker: { readonly capabilities: LockerCapabilities; readonly ttlMs: number },
): ResolvedAcquireOptions {
  const {
    mode = 'exclusive',
    ttlMs = locker.ttlMs,
    renew = 'auto',
    maxHoldMs = Number.POSITIVE_INFINITY,
    minHoldMs = 0,
    waitTimeoutMs = Number.POSITIVE_INFINITY,
    metadata = null,
    signal,
  } = options ?? {}
  if (options !== undefined && typeof options !== 'object') {
    throw new ConfigurationError(
      `expected an object of options, such as { ttlMs: 30_000 }; got ${describeValue(options)}`,
    )
  }
  for (const option in options) {
    if (!acquireOptions.has(option)) throw unknownOption(option, option, [...acquireOptions])
  }
  if (!locker.capabilities.modes.includes(mode)) fail('mode', `one of ${locker.capabilities.modes.join(', ')}`, mode)
  checkTtl(ttlMs)
  if (renew !== 'auto' && renew !== 'manual') fail('renew', "'auto' or 'manual'", renew)
  if (!isDuration(maxHoldMs) || maxHoldMs <= 0) fail('maxHoldMs', 'milliseconds above 0', maxHoldMs)
  if (!isDuration(minHoldMs) || minHoldMs === Number.POSITIVE_INFINITY) {
    fail('minHoldMs', 'a finite number of milliseconds, 0 or more', minHoldMs)
  }
  if (minHoldMs > 0 && !locker.capabilities.lease) {
    fail('minHoldMs', '0, because this locker has no leases: the key is free as soon as it is released', minHoldMs)
  }
  if (metadata !== null) checkMetadata(metadata)
  checkPatience({ waitTimeoutMs, signal })
  return { mode, ttlMs, renew, maxHoldMs, minHoldMs, waitTimeoutMs, metadata, signal }
}

/** @throws {ConfigurationError} where it cannot be told how long to wait */
export function checkPatience(options: Pick<AcquireOptions, 'waitTimeoutMs' | 'signal'>): void {
  if (typeof options !== 'object' || options === null) fail('options', 'an object', options)
  const { waitTimeoutMs, signal } = options
  if (waitTimeoutMs !== undefined && !isDuration(waitTimeoutMs)) {
    fail('waitTimeoutMs', 'milliseconds, 0 or more', waitTimeoutMs)
  }
  if (signal !== undefined && !(signal instanceof AbortSignal)) fail('signal', 'an AbortSignal', signal)
}

/** @throws {ConfigurationError} for anything but milliseconds of at least 100; Infinity is allowed */
export function checkTtl(ttlMs: number): void {
  if (!isDuration(ttlMs) || ttlMs < 100) fail('ttlMs', 'milliseconds, at least 100', ttlMs)
}

const longestKeyBytes = 1_024

/**
 * @throws {ConfigurationError} for anything but a well-formed string of 1 byte to 1 KiB of UTF-8 without NUL
 */
export function checkKey(key: string): void {
  if (typeof key !== 'string') fail('key', 'a string', key)
  if (key.length === 0) fail('key', 'at least one character', key)
  if (key.length * 3 > longestKeyBytes && Buffer.byteLength(key) > longestKeyBytes) {
    fail('key', `at most ${longestKeyBytes} bytes of UTF-8`, key)
  }
  if (key.includes('\0')) fail('key', 'no NUL character', key)
  if (!key.isWellFormed()) fail('key', 'well-formed Unicode without lone surrogates', key)
}

/** @throws {ConfigurationError} for anything but an array of keys; a string would be taken for its letters */
export function checkKeys(keys: readonly string[]): void {
  if (!Array.isArray(keys)) fail('keys', 'an array of keys', keys)
  for (const key of keys) checkKey(key)
}

const longestMetadataBytes = 4_096

function checkMetadata(metadata: Readonly<Record<string, string>>): void {
  if (typeof metadata !== 'object' || Array.isArray(metadata)) fail('metadata', 'an object of strings', metadata)
  for (const [name, value] of Object.entries(metadata)) {
    if (typeof value !== 'string') fail(`metadata.${name}`, 'a string', value)
    // jsonb takes neither of these.
    for (const text of [name, value]) {
      if (text.includes('\0') || !text.isWellFormed()) {
        fail(`metadata.${name}`, 'well-formed Unicode without NUL', text)
      }
    }
  }
  const bytes = Buffer.byteLength(JSON.stringify(metadata))
  if (bytes > longestMetadataBytes) fail('metadata', `at most ${longestMetadataBytes} bytes as JSON`, `${bytes} bytes`)
}

function isDuration(value: unknown): value is number {
  return typeof value === 'number' && value >= 0
}

function fail(option: string, expected: string, got: unknown): never {
  throw new ConfigurationError(`option ${option}: expected ${expected}; got ${describeValue(got, [option])}`, {
    option,
  })
}
