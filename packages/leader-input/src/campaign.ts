import { ConfigurationError, hasErrorCode, type Lock, type Logger } from '@x/lock-core'
import type { LeaderInputOptions } from './options.ts'

/** A lock that cannot be released ends by itself, and the error underneath is the one to report. */
export async function releaseLead(
  lock: Lock,
  { name, logger }: { readonly name: string; readonly logger: Logger | undefined },
): Promise<void> {
  try {
    await lock[Symbol.asyncDispose]()
  } catch (error) {
    logger?.warn({ input: name, err: error }, 'could not release the lock')
  }
}

export async function acquireLead(
  locker: LeaderInputOptions<unknown>['locker'],
  options: {
    readonly lockKey: string
    readonly takeoverMs: number
    readonly name: string
    readonly logger: Logger | undefined
  },
  signal: AbortSignal,
): Promise<Lock> {
  try {
    return await locker.acquire(options.lockKey, {
      signal,
      metadata: { input: options.name },
      // Other locks live as long as their session or process, which is as good as can be.
      ...(locker.capabilities.lease && locker.capabilities.crossProcess ? { ttlMs: options.takeoverMs } : {}),
    })
  } catch (error) {
    if (!hasErrorCode(error, 'CLOSED')) throw error
    throw new ConfigurationError('option locker: it is closed; pass one that lives as long as the input', {
      option: 'locker',
      cause: error,
    })
  }
}

/** What no waiting will heal. */
export function isFatal(error: unknown): boolean {
  return (
    hasErrorCode(error, 'INVALID_OPTIONS') ||
    hasErrorCode(error, 'SCHEMA_MISSING') ||
    hasErrorCode(error, 'SCHEMA_OUTDATED') ||
    hasErrorCode(error, 'SCHEMA_NEWER')
  )
}
