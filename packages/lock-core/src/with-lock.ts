import { type CoordinationError, hasErrorCode, LockLostError } from './errors.ts'
import type { AcquireOptions, Lock, Locker, TryAcquireOptions } from './locker.ts'

/**
 * Runs `fn` while holding the lock, and releases it afterwards, whatever happened.
 *
 * @returns what `fn` returned
 * @throws {LockLostError} when the lock was lost although `fn` succeeded: its effects may have met those of another holder
 * @throws whatever `fn` throws; an error of the release never hides it
 * @throws {LockTimeoutError} when `waitTimeoutMs` passed before the lock was granted; `fn` did not run
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
  return runHolding(await locker.acquire(key, options), fn)
}

/**
 * Runs `fn` if the lock is free, or says that another holder has it. With `minHoldMs` (leases) the key stays taken for
 * that long, so that a nightly job which takes 50 ms runs on one replica only, although their clocks differ.
 *
 * @throws {LockLostError} when the lock was lost although `fn` succeeded
 * @throws whatever `fn` throws; an error of the release never hides it
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
  const lock = await locker.tryAcquire(key, options)
  return lock === null ? { acquired: false } : { acquired: true, value: await runHolding(lock, fn) }
}

async function runHolding<T>(lock: Lock, fn: (lock: Lock) => T | Promise<T>): Promise<T> {
  let value: T
  try {
    value = await fn(lock)
  } catch (error) {
    await disposeQuietly(lock)
    throw error
  }
  if (!lock.isHeld()) {
    if (lock.signal.aborted) throw lock.signal.reason
    // fn released it itself: what it protects was protected until then.
    return value
  }
  try {
    await lock.release()
  } catch (error) {
    if (hasErrorCode(error, 'LOCK_NOT_HELD')) throw lossOf(lock, error)
    throw error
  }
  return value
}

async function disposeQuietly(lock: Lock): Promise<void> {
  try {
    await lock[Symbol.asyncDispose]()
  } catch {
    // The error of the body is the one that matters; the lock ends with its lease or session.
  }
}

function lossOf(lock: Lock, error: CoordinationError): unknown {
  if (lock.signal.aborted) return lock.signal.reason
  return new LockLostError({ key: lock.key, reason: 'lease-expired' }, { cause: error })
}
