import { ConfigurationError } from '@x/lock-core'
import type { JsonValue, Metadata } from './node.ts'

const longestBytes = 16_384
const deepest = 64

/**
 * A frozen copy of what a node says about itself.
 * @throws {ConfigurationError} for anything that JSON would drop or change (functions, dates, NaN, cycles), a `__proto__`
 * key, text that Postgres cannot store (NUL, lone surrogates), or more than 16 KiB
 */
export function checkMetadata(value: unknown, option = 'metadata'): Metadata {
  const copy = copyOf(value, option, 0)
  if (!isRecord(copy)) fail(option, 'an object', Array.isArray(copy) ? 'an array' : typeof copy)
  const bytes = Buffer.byteLength(JSON.stringify(copy))
  if (bytes > longestBytes) fail(option, `at most ${longestBytes} bytes as JSON`, `${bytes} bytes`)
  return copy
}

/** A frozen copy of metadata that another node wrote; what does not belong into an object is left out. */
export function readMetadata(value: unknown): Metadata {
  return isRecord(value) ? freezeDeep(value) : Object.freeze({})
}

/** Whether metadata contains all that `wanted` names: objects key by key, everything else as equal JSON. */
export function metadataMatches(metadata: Metadata, wanted: Metadata): boolean {
  return contains(metadata, wanted)
}

function contains(value: JsonValue | undefined, wanted: JsonValue): boolean {
  if (value === undefined) return false
  if (isRecord(wanted)) {
    return (
      isRecord(value) &&
      Object.entries(wanted).every(([key, each]) => Object.hasOwn(value, key) && contains(value[key], each))
    )
  }
  if (isList(wanted)) {
    return (
      isList(value) && value.length === wanted.length && wanted.every((each, index) => sameJson(value[index], each))
    )
  }
  return value === wanted
}

function sameJson(a: JsonValue | undefined, b: JsonValue): boolean {
  if (a !== undefined && isRecord(a) && isRecord(b)) {
    return Object.keys(a).length === Object.keys(b).length && contains(a, b)
  }
  return contains(a, b)
}

function copyOf(value: unknown, path: string, depth: number): JsonValue {
  if (depth > deepest) fail(path, `at most ${deepest} levels, without cycles`, 'more')
  switch (typeof value) {
    case 'string':
      if (value.includes('\0') || !value.isWellFormed()) {
        fail(path, 'well-formed Unicode without NUL', 'text that Postgres cannot store')
      }
      return value
    case 'number':
      if (!Number.isFinite(value)) fail(path, 'a finite number', String(value))
      return value
    case 'boolean':
      return value
    case 'object':
      if (value === null) return null
      return Array.isArray(value) ? copyOfList(value, path, depth) : copyOfObject(value, path, depth)
    default:
      return fail(path, 'plain JSON', typeof value)
  }
}

function copyOfList(value: readonly unknown[], path: string, depth: number): JsonValue {
  return Object.freeze(Array.from(value, (each, index) => copyOf(each, `${path}[${index}]`, depth + 1)))
}

function copyOfObject(value: object, path: string, depth: number): JsonValue {
  const prototype: unknown = Object.getPrototypeOf(value)
  if (prototype !== null && prototype !== Object.prototype) {
    fail(path, 'plain JSON', `an instance of ${value.constructor?.name || 'a class'}`)
  }
  const copy: { [key: string]: JsonValue } = {}
  for (const [key, each] of Object.entries(value)) {
    if (key === '__proto__') fail(path, 'no key named __proto__', 'one')
    copyOf(key, `${path}: a key`, depth)
    copy[key] = copyOf(each, `${path}.${key.slice(0, 60)}`, depth + 1)
  }
  return Object.freeze(copy)
}

function freezeDeep<T extends JsonValue>(value: T): T {
  if (typeof value === 'object' && value !== null) {
    for (const each of Object.values(value)) freezeDeep(each)
    Object.freeze(value)
  }
  return value
}

function isList(value: JsonValue): value is readonly JsonValue[] {
  return Array.isArray(value)
}

function isRecord(value: unknown): value is Metadata {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function fail(option: string, expected: string, got: string): never {
  throw new ConfigurationError(`option ${option}: expected ${expected}; got ${got}`, { option })
}
