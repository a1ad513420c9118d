import { setTimeout as delay } from 'node:timers/promises'
import { ConfigurationError, hasErrorCode, type Lock } from '@x/lock-core'
import { retryDelayMs } from './handling/retry.ts'
import { lead } from './lead.ts'
import { Outranked, takeEpoch } from './leadership.ts'
import { type InputParts, Term } from './term.ts'

/** After this long without a failure the next one counts as the first. */
const calmMs = 10_000
const longestPauseMs = 2_000

/**
 * Campaigns for the lead, leads when it is granted, and campaigns again when a term has ended, until `signal` aborts.
 * @param check has to succeed once before the first campaign. Until then a login that is refused is a wrong setting; later it
 *   is a server in trouble, or a password that is being changed, and waited for like any lost connection.
 * @throws what no waiting will heal
 */
export async function campaignAgainAndAgain<DB>(
  parts: InputParts<DB>,
  check: () => Promise<void>,
  signal: AbortSignal,
): Promise<void> {
  const { options, health } = parts
  const campaign = campaigner(parts)
  let failures = 0
  let isChecked = false
  while (!signal.aborted) {
    const startedAt = performance.now()
    try {
      if (!isChecked) await check()
      isChecked = true
      await campaign(signal)
    } catch (error) {
      if (signal.aborted) return
      if (isFatal(error) || (!isChecked && isRefused(error))) throw error
      failures = performance.now() - startedAt > calmMs ? 1 : failures + 1
      health.lastError = error
      options.logger?.warn({ input: options.name, err: error }, 'the term ended; campaigning again')
      await delay(Math.min(longestPauseMs, retryDelayMs(failures, Math.random)), undefined, { signal }).catch(() => {})
    }
  }
}

/** One campaign after the other, each of which knows what those before it have met. */
function campaigner<DB>(parts: InputParts<DB>): (signal: AbortSignal) => Promise<void> {
  const { options, health, connections, log } = parts
  /** Above the token of a lock of ours, and there before any that comes. */
  let foreignEpoch: bigint | null = null

  const leadUnder = async (lock: Lock, signal: AbortSignal): Promise<void> => {
    const connection = await connections.connect()
    const termSignal = AbortSignal.any([signal, lock.signal])
    let term: Term<DB> | null = null
    const onLost = (): void => {
      health.lastError = lock.signal.reason
      options.logger?.warn(
        { input: options.name, err: lock.signal.reason },
        'the lock was lost, and the lead with it; a locker on the same pool needs a client for its renewals: give it a max of 3 or more',
      )
      if (term === null) connection.release(true)
      else term.abandon()
    }
    lock.signal.addEventListener('abort', onLost, { once: true })
    try {
      const durableTokens = options.locker.capabilities.fencing === 'durable'
      const { name, logger } = options
      const stored = await takeEpoch(connection, log, { name, lock, durableTokens, foreignEpoch, logger })
      term = new Term(parts, lock, connection, stored, termSignal)
      health.status = 'leading'
      health.epoch = stored.epoch
      logger?.info({ input: name, epoch: stored.epoch.toString() }, 'leading')
      await lead(term, parts.wakeUp)
    } catch (error) {
      if (error instanceof Outranked) foreignEpoch = error.epoch
      // What fails because the time is over is not a failure.
      if (!termSignal.aborted) throw error
    } finally {
      lock.signal.removeEventListener('abort', onLost)
      if (term === null) connection.release()
      else term.release()
    }
  }
  return async (signal) => {
    const lock = await acquireLead(options, signal)
    try {
      await leadUnder(lock, signal)
    } finally {
      health.status = 'standby'
      health.epoch = null
      await releaseLead(lock, options)
    }
  }
}

/** A lock that cannot be released ends by itself, and the error underneath is the one to report. */
async function releaseLead(
  lock: Lock,
  { name, logger }: Pick<InputParts<unknown>['options'], 'name' | 'logger'>,
): Promise<void> {
  try {
    await lock[Symbol.asyncDispose]()
  } catch (error) {
    logger?.warn({ input: name, err: error }, 'could not release the lock')
  }
}

async function acquireLead(options: InputParts<unknown>['options'], signal: AbortSignal): Promise<Lock> {
  const { locker } = options
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
function isFatal(error: unknown): boolean {
  return (
    hasErrorCode(error, 'INVALID_OPTIONS') ||
    hasErrorCode(error, 'SCHEMA_MISSING') ||
    hasErrorCode(error, 'SCHEMA_OUTDATED') ||
    hasErrorCode(error, 'SCHEMA_NEWER')
  )
}

/** Nobody is let in like this, or may do it. */
function isRefused(error: unknown): boolean {
  return (hasErrorCode(error, 'CONNECTION') && !error.retryable) || hasErrorCode(error, 'PRIVILEGE')
}
