import { z } from 'zod'
import { describeValue } from './adapter/describe-value.ts'
import { ConfigurationError } from './errors.ts'
import type { Locker } from './locker.ts'

const expected = 'expected a Locker, such as createTableLocker() gives'

/** The option `locker` of whatever is built on one. */
export const lockerOption: z.ZodType<Locker> = /* @__PURE__ */ z.custom<Locker>(isLocker, expected)

/** @throws {ConfigurationError} for anything but a locker: before something is sent, and not in the middle */
export function checkLocker(locker: unknown, where: string): asserts locker is Locker {
  if (isLocker(locker)) return
  throw new ConfigurationError(`${where}: option locker: ${expected}; got ${describeValue(locker)}`, {
    option: 'locker',
  })
}

/**
 * @param missing what the caller left out, where that is what made the function another argument
 * @throws {ConfigurationError} when what is to run under the lock is no function
 */
export function checkBody(fn: unknown, where: string, missing?: string): asserts fn is (...args: never[]) => unknown {
  if (typeof fn === 'function') return
  const got = missing === undefined ? describeValue(fn) : `it without ${missing}`
  throw new ConfigurationError(`${where}: expected a function to run, as the last argument; got ${got}`, {
    option: 'fn',
  })
}

function isLocker(value: unknown): value is Locker {
  return (
    typeof value === 'object' &&
    value !== null &&
    'acquire' in value &&
    'tryAcquire' in value &&
    typeof value.acquire === 'function' &&
    typeof value.tryAcquire === 'function'
  )
}
