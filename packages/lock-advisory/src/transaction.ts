import { hasErrorCode, type LockMode, LockTimeoutError, lockId, type SqlExecutor } from '@x/lock-core'
import { checkKey, parseOptions } from '@x/lock-core/adapter'
import { asExecutor, assertInTransaction, type Executor, sqlStateOf } from '@x/pg-session'
import { z } from 'zod'
import { inTransaction } from './statements.ts'

/** Which lock to take in a transaction. */
export interface TransactionLockOptions {
  /** As for `locker.acquire`: the two exclude each other. */
  key: string
  /** @default 0 */
  namespace?: number | undefined
  /** @default 'exclusive' */
  mode?: LockMode | undefined
}

const int32 = z.number().int().min(-2_147_483_648).max(2_147_483_647)
const lockSchema = z.strictObject({
  key: z.string(),
  namespace: int32.default(0),
  mode: z.enum(['exclusive', 'shared']).default('exclusive'),
})
/** lock_timeout is an int32 of milliseconds, in which 0 means no limit. */
const waitSchema = lockSchema.extend({
  waitTimeoutMs: z.union([z.number().min(0).max(2_147_483_647), z.literal(Number.POSITIVE_INFINITY)]).optional(),
})

/**
 * Takes a lock until the end of the caller's transaction, waiting for it. Freed by COMMIT and ROLLBACK, and by nothing
 * else; works through every pooler. Those who wait in `notify` mode for a lock that a transaction holds are not told of its
 * end: they look every `pollMs`.
 *
 * @param executor the caller's open transaction
 * @param options.waitTimeoutMs milliseconds until LockTimeoutError; 0 is one attempt. When it passes, the transaction is
 * aborted as after any error: roll back, or to a savepoint. The caller's own lock_timeout is restored. Infinity waits for
 * ever. @default whatever lock_timeout is set to; the `waitTimeoutMs` of the error is Infinity then
 * @throws {LockTimeoutError} @throws {DeadlockError} @throws {NotInTransactionError} @throws {ConfigurationError}
 * @example
 * await client.query('BEGIN')
 * await acquireInTransaction(client, { key: 'account/42' })
 * await client.query('UPDATE …')
 * await client.query('COMMIT')
 */
export async function acquireInTransaction(
  executor: SqlExecutor,
  options: TransactionLockOptions & { waitTimeoutMs?: number | undefined },
): Promise<void> {
  const what = 'acquireInTransaction'
  const { key, namespace, mode, waitTimeoutMs } = parseOptions(waitSchema, options, what)
  checkKey(key)
  const transaction = await openTransaction(executor, what)
  const id = lockId(namespace, key).toString()
  if (waitTimeoutMs === 0) {
    if (!(await tryIn(transaction, id, mode))) throw new LockTimeoutError({ key, waitTimeoutMs })
    return
  }
  const before = waitTimeoutMs === undefined ? null : await swapLockTimeout(transaction, lockTimeout(waitTimeoutMs))
  try {
    await transaction.query(mode === 'exclusive' ? inTransaction.lock : inTransaction.lockShared, [id])
  } catch (error) {
    // The transaction is aborted now, and with it what was set in it; so is the lock, should it have been granted.
    if (sqlStateOf(error) === '55P03' || (hasErrorCode(error, 'QUERY_FAILED') && sqlStateOf(error.cause) === '55P03')) {
      throw new LockTimeoutError({ key, waitTimeoutMs: waitTimeoutMs ?? Number.POSITIVE_INFINITY }, { cause: error })
    }
    throw error
  }
  if (before !== null) await swapLockTimeout(transaction, before)
}

/**
 * The same without waiting.
 * @returns false when somebody else has the lock; the transaction goes on
 * @throws {NotInTransactionError} @throws {ConfigurationError}
 */
export async function tryAcquireInTransaction(
  executor: SqlExecutor,
  options: TransactionLockOptions,
): Promise<boolean> {
  const what = 'tryAcquireInTransaction'
  const { key, namespace, mode } = parseOptions(lockSchema, options, what)
  checkKey(key)
  return tryIn(await openTransaction(executor, what), lockId(namespace, key).toString(), mode)
}

async function openTransaction(executor: SqlExecutor, what: string): Promise<Executor> {
  const transaction = asExecutor(executor, what)
  await assertInTransaction(transaction, what)
  return transaction
}

async function tryIn(transaction: Executor, id: string, mode: LockMode): Promise<boolean> {
  const text = mode === 'exclusive' ? inTransaction.try : inTransaction.tryShared
  const [row] = await transaction.query<{ ok: boolean }>(text, [id])
  return row?.ok === true
}

/** lock_timeout takes 0 for no limit. */
function lockTimeout(waitTimeoutMs: number): string {
  return waitTimeoutMs === Number.POSITIVE_INFINITY ? '0' : `${Math.ceil(waitTimeoutMs)}ms`
}

async function swapLockTimeout(transaction: Executor, value: string): Promise<string | null> {
  const [row] = await transaction.query<{ value: string }>(inTransaction.swapLockTimeout, [value])
  return row?.value ?? null
}
