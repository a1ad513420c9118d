import type { AcquireOptions, Lock, Locker, TryAcquireOptions } from './locker.ts'
import { checkBody, checkLocker } from './locker-argument.ts'
import { runHolding } from './run-holding.ts'

/**
 * Runs `fn` while holding the lock, and releases it afterwards, whatever happened.
 *
 * @returns what `fn` returned
 * @throws {LockLostError} when the lock was lost although `fn` succeeded: its effects may have met those of another holder
 * @throws whatever `fn` throws; an error of the release never hides it
 * @throws {LockTimeoutError} when `waitTimeoutMs` passed before the lock was granted; `fn` did not run
 * @throws {ConfigurationError} before anything is sent
 * @example
 * await withLock(locker, 'invoice/42', async (lock) => {
 *   await sendInvoice(42, { signal: lock.signal, token: lock.fencingToken })
 * })
 */
export function withLock<T>(locker: Locker, key: string, fn: (lock: Lock) => T | Promise<T>): Promise<T>
export function withLock<T>(
  locker: Locker,
  key: string,
  options: AcquireOptions,
  fn: (lock: Lock) => T | Promise<T>,
): Promise<T>
export async function withLock<T>(
  locker: Locker,
  key: string,
  ...rest: [fn: (lock: Lock) => T | Promise<T>] | [options: AcquireOptions, fn: (lock: Lock) => T | Promise<T>]
): Promise<T> {
  const [options, fn] = rest.length === 1 ? [undefined, rest[0]] : rest
  checkLocker(locker, 'withLock')
  checkBody(fn, 'withLock')
  const lock = await locker.acquire(key, options)
  return runHolding(lock, () => fn(lock))
}

/**
 * Runs `fn` if the lock is free, or says that another holder has it. With `minHoldMs` (leases) the key stays taken for
 * that long, so that a nightly job which takes 50 ms runs on one replica only, although their clocks differ.
 *
 * @throws {LockLostError} when the lock was lost although `fn` succeeded
 * @throws whatever `fn` throws; an error of the release never hides it
 * @throws {ConfigurationError} before anything is sent
 * @example
 * const ran = await tryWithLock(locker, 'nightly', { minHoldMs: 60_000 }, () => job())
 * if (!ran.acquired) console.log('another replica has it')
 */
export async function tryWithLock<T>(
  locker: Locker,
  key: string,
  options: TryAcquireOptions,
  fn: (lock: Lock) => T | Promise<T>,
): Promise<{ readonly acquired: true; readonly value: T } | { readonly acquired: false }> {
  checkLocker(locker, 'tryWithLock')
  checkBody(fn, 'tryWithLock', typeof options === 'function' ? 'options before it, such as {}' : undefined)
  const lock = await locker.tryAcquire(key, options)
  return lock === null ? { acquired: false } : { acquired: true, value: await runHolding(lock, () => fn(lock)) }
}
