import { DatabaseSync, type SQLInputValue } from 'node:sqlite'
import { setTimeout as sleep } from 'node:timers/promises'
import type { AcquireOptions, Lock, Locker, LockerCapabilities, LockStatus, TryAcquireOptions } from '@x/lock-core'
import { ClosedError, LockNotHeldError, UnsupportedError } from '@x/lock-core'
import type { LockFamily, ResolvedAcquireOptions } from '@x/lock-core/adapter'
import { checkAcquireOptions, checkKey, ksuid, LockHandle, monotonicNow, WaitLimit } from '@x/lock-core/adapter'
import * as sql from './sqlite-statements.ts'

export const capabilities: LockerCapabilities = {
  modes: ['exclusive'],
  fencing: 'durable',
  lease: true,
  fifo: 'global',
  durable: true,
  crossProcess: true,
  lossNotice: 'before-regrant',
}

/** How often a waiter looks, and for how long its place in the line outlives it. */
const [pollMs, aliveMs] = [15, 1_000]

/** What finds a grant again: an owner that is unique to it, so that a late request of an earlier grant touches nothing. */
type Grant = { readonly owner: string; readonly renewed: boolean }

/** Locks for the processes of one machine, in an SQLite file. */
export class SqliteLocker implements Locker {
  readonly capabilities: LockerCapabilities = capabilities
  readonly ttlMs = 10_000
  readonly #db: DatabaseSync
  readonly #sessionId = ksuid()
  readonly #held = new Set<LockHandle<Grant>>()
  readonly #waits = new Set<WaitLimit>()
  readonly #renewals: NodeJS.Timeout
  readonly #family: LockFamily<Grant> = {
    hooks: {
      release: async (lock, keepMs) => {
        this.#held.delete(lock)
        this.#mustOwn(lock, 'release', sql.release, { keepMs })
      },
      refresh: async (lock, ttlMs) => this.#mustOwn(lock, 'refresh', sql.renew, { ttlMs }),
      lost: (lock) => {
        this.#held.delete(lock)
        this.#first(sql.release, { key: lock.key, owner: lock.grant.owner, keepMs: 0 })
      },
    },
  }
  #closed = false

  constructor(path: string) {
    this.#db = new DatabaseSync(path)
    this.#db.exec(sql.schema)
    this.#renewals = setInterval(() => this.#renew(), 50).unref()
  }

  async tryAcquire(key: string, options?: TryAcquireOptions): Promise<Lock | null> {
    return this.#tryGrant(key, Number.POSITIVE_INFINITY, this.#check(key, options))
  }

  async acquire(key: string, options?: AcquireOptions): Promise<Lock> {
    const resolved = this.#check(key, options)
    const free = this.#tryGrant(key, Number.POSITIVE_INFINITY, resolved)
    if (free !== null) return free
    using limit = new WaitLimit({ key, waitTimeoutMs: resolved.waitTimeoutMs, signal: resolved.signal })
    this.#waits.add(limit)
    let ticket: SQLInputValue = null
    try {
      for (;;) {
        limit.throwIfOver()
        if (ticket !== null) ticket = this.#first(sql.stayInLine, { ticket, aliveMs })?.ticket ?? null
        ticket ??= this.#first(sql.enterLine, { key, aliveMs })?.ticket ?? null
        const lock = this.#tryGrant(key, ticket, resolved)
        if (lock !== null) return lock
        await limit.race(sleep(Math.min(pollMs, limit.remainingMs())))
      }
    } finally {
      this.#waits.delete(limit)
      this.#first(sql.leaveLine, { ticket })
    }
  }

  async status(key: string): Promise<LockStatus> {
    checkKey(key)
    this.#assertOpen()
    const row = this.#first(sql.status, { key })
    const isAcquired = row?.taken === 1
    const holder = {
      sessionId: isAcquired ? String(row.session) : null,
      acquirerName: null,
      acquirerAddress: null,
      acquiredAt: isAcquired ? new Date(Number(row.acquired_at)) : null,
      expiresAt: isAcquired ? new Date(Number(row.expires_at)) : null,
      fencingToken: isAcquired ? BigInt(Number(row.token)) : null,
      metadata: isAcquired && row.metadata !== null ? JSON.parse(String(row.metadata)) : null,
    }
    const holders = isAcquired ? [{ ...holder, mode: 'exclusive' as const, pid: null }] : []
    return { key, isAcquired, ...holder, mode: holders[0]?.mode ?? null, waiters: Number(row?.waiters), holders }
  }

  async ping(): Promise<void> {
    this.#assertOpen()
    this.#first('SELECT 1', {})
  }
  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    clearInterval(this.#renewals)
    for (const limit of [...this.#waits]) limit.end(new ClosedError('SQLite locker'))
    for (const lock of [...this.#held]) lock.lose('closed')
    // The waiters take their tickets out of the line before the file is closed under them.
    await new Promise(setImmediate)
    this.#db.close()
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  #check(key: string, options: AcquireOptions | undefined): ResolvedAcquireOptions {
    checkKey(key)
    const resolved = checkAcquireOptions(options, this)
    if (resolved.ttlMs === Number.POSITIVE_INFINITY)
      throw new UnsupportedError('a lease needs an end: pass a finite ttlMs')
    this.#assertOpen()
    resolved.signal?.throwIfAborted()
    return resolved
  }

  #assertOpen(): void {
    if (this.#closed) throw new ClosedError('SQLite locker')
  }

  #tryGrant(key: string, ticket: SQLInputValue, options: ResolvedAcquireOptions): Lock | null {
    const { mode, ttlMs, renew, maxHoldMs, minHoldMs } = options
    // Before the request: SQLite's lease begins later than what we believe, and so ends later.
    const startedAt = monotonicNow()
    const grant: Grant = { owner: ksuid(), renewed: renew === 'auto' }
    const metadata = options.metadata && JSON.stringify(options.metadata)
    const sessionId = this.#sessionId
    const row = this.#first(sql.grant, { key, ticket, owner: grant.owner, session: sessionId, ttlMs, metadata })
    if (row === undefined) return null
    const [fencingToken, acquiredAtMs] = [BigInt(Number(row.token)), Number(row.acquired_at)]
    const granted = { key, mode, fencingToken, sessionId, acquiredAtMs, startedAt, ttlMs, maxHoldMs, minHoldMs, grant }
    const lock = new LockHandle<Grant>(granted, this.#family)
    this.#held.add(lock)
    return lock
  }

  #renew(): void {
    for (const lock of [...this.#held]) {
      const startedAt = monotonicNow()
      if (!lock.grant.renewed || !lock.isHeld() || lock.remainingMs() > (lock.ttlMs * 2) / 3) continue
      const values = { key: lock.key, owner: lock.grant.owner, ttlMs: lock.ttlMs }
      if (this.#first(sql.renew, values) === undefined) lock.lose('lease-expired')
      else lock.renewed(startedAt)
    }
  }

  #mustOwn(lock: LockHandle<Grant>, operation: string, statement: string, values: Record<string, number>): void {
    const row = this.#first(statement, { key: lock.key, owner: lock.grant.owner, ...values })
    if (row === undefined) throw new LockNotHeldError({ key: lock.key, operation })
  }

  #first(statement: string, values: Record<string, SQLInputValue>): Record<string, SQLInputValue> | undefined {
    return this.#db.prepare(statement).get(values)
  }
}
