import { type CoordinationError, hasErrorCode, LockLostError } from './errors.ts'
import type { Lock } from './locker.ts'

/**
 * Runs `fn` and gives the lock back. An error of `fn` is never hidden by one of the release; a lock that was lost although
 * `fn` succeeded is an error.
 */
export async function runHolding<T>(lock: Lock, fn: () => T | Promise<T>): Promise<T> {
  let value: T
  try {
    value = await fn()
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
