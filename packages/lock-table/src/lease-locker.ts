import {
  type AcquireOptions,
  ClosedError,
  ConfigurationError,
  type Lock,
  type Locker,
  type LockerCapabilities,
  type LockStatus,
  LockTimeoutError,
  type Logger,
  type TryAcquireOptions,
} from '@x/lock-core'
import {
  checkAcquireOptions,
  checkKey,
  checkKeys,
  checkOptionNames,
  type ResolvedAcquireOptions,
  tracedAcquire,
  tracedAcquireMany,
} from '@x/lock-core/adapter'
import type { Acquiring, Begun } from './acquiring.ts'
import type { Admin, ListFilter } from './admin.ts'
import { assemble } from './assembly.ts'
import { atMost } from './at-most.ts'
import type { Contention } from './contention.ts'
import type { Granting, GrantRequest } from './granting.ts'
import type { Holding } from './holding.ts'
import { checkFinite } from './lease.ts'
import type { Line } from './line/line.ts'
import type { Listening } from './line/wake-ups.ts'
import type { ResolvedTableLockerOptions } from './options.ts'
import { Owners } from './owners.ts'
import type { Releasing } from './releasing.ts'
import type { LockStore } from './store.ts'
import { Waits } from './waits.ts'

const capabilities: LockerCapabilities = {
  modes: ['exclusive', 'shared'],
  fencing: 'durable',
  lease: true,
  fifo: 'global',
  durable: true,
  crossProcess: true,
  lossNotice: 'before-regrant',
}

const what = 'table locker'

/** Milliseconds that `close()` waits for a database which does not answer. */
const closeMs = 5_000

/** A table locker from its parts. */
export class LeaseLocker implements Locker {
  readonly capabilities: LockerCapabilities = capabilities
  /** The default of `ttlMs`. */
  readonly ttlMs: number
  readonly #owners = new Owners()
  readonly #store: LockStore
  readonly #contention: Contention
  readonly #granting: Granting
  readonly #releasing: Releasing
  readonly #line: Line
  readonly #listening: Listening
  readonly #acquiring: Acquiring
  readonly #holding: Holding
  readonly #admin: Admin
  readonly #logger: Logger | undefined
  readonly #waits = new Waits()
  #closing: Promise<void> | null = null

  constructor(options: ResolvedTableLockerOptions) {
    this.ttlMs = options.ttlMs
    this.#logger = options.logger
    const parts = assemble(options, this.#owners)
    this.#store = parts.store
    this.#contention = parts.contention
    this.#granting = parts.granting
    this.#releasing = parts.releasing
    this.#line = parts.line
    this.#listening = parts.listening
    this.#acquiring = parts.acquiring
    this.#holding = parts.holding
    this.#admin = parts.admin
  }

  async tryAcquire(key: string, options?: TryAcquireOptions): Promise<Lock | null> {
    checkKey(key)
    const resolved = this.#check(options)
    return tracedAcquire({ key, mode: resolved.mode, waits: false, signal: resolved.signal }, () =>
      this.#try(key, resolved),
    )
  }

  async acquire(key: string, options?: AcquireOptions): Promise<Lock> {
    checkKey(key)
    const resolved = this.#check(options)
    return tracedAcquire({ key, mode: resolved.mode, waits: true, signal: resolved.signal }, async () => {
      if (resolved.waitTimeoutMs > 0) return this.#acquire(key, resolved, this.#wait)
      const lock = await this.#try(key, resolved)
      if (lock === null) throw new LockTimeoutError({ key, waitTimeoutMs: resolved.waitTimeoutMs })
      return lock
    })
  }

  async tryAcquireMany(keys: readonly string[], options?: TryAcquireOptions): Promise<readonly Lock[] | null> {
    checkKeys(keys)
    const distinct = [...new Set(keys)]
    const resolved = this.#check(options)
    if (distinct.length === 0) return []
    const { mode, signal } = resolved
    return tracedAcquireMany({ keys, mode, signal }, async () => {
      const locks = await this.#waits.within(patienceOf('', resolved), () => this.#all(distinct, resolved))
      if (locks === null) return null
      const byKey = new Map(locks.map((lock) => [lock.key, lock]))
      return keys.map((key) => byKey.get(key)).filter((lock) => lock !== undefined)
    })
  }

  async status(key: string): Promise<LockStatus> {
    checkKey(key)
    this.#assertOpen()
    return this.#admin.status(key)
  }

  async list(filter: ListFilter = {}): Promise<readonly LockStatus[]> {
    checkOptionNames(filter, ['prefix', 'acquirerName', 'isAcquired', 'limit'], 'list')
    this.#assertOpen()
    return this.#admin.list(filter)
  }

  async forceRelease(key: string, options: { immediate?: boolean | undefined } = {}): Promise<boolean> {
    checkKey(key)
    checkOptionNames(options, ['immediate'], 'forceRelease')
    this.#assertOpen()
    return this.#admin.forceRelease(key, options.immediate ?? false)
  }

  async prune(olderThanMs: number): Promise<number> {
    if (!(Number.isFinite(olderThanMs) && olderThanMs >= 0)) {
      throw new ConfigurationError(`prune: expected milliseconds, 0 or more; got ${String(olderThanMs)}`, {
        option: 'olderThanMs',
      })
    }
    this.#assertOpen()
    return this.#admin.prune(Math.floor(olderThanMs))
  }

  async ping(): Promise<void> {
    this.#assertOpen()
    await this.#store.query(this.#store.statements.ping, [])
  }

  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  async #close(): Promise<void> {
    this.#waits.end(new ClosedError(what))
    this.#holding.close()
    const settled = this.#settle()
    if (await atMost(settled, closeMs)) return
    this.#releasing.giveUp()
    this.#logger?.warn({ closeMs }, 'the database is silent: closed without its answers; leases end with their ttl')
    settled.catch((error: unknown) =>
      this.#logger?.debug({ err: error }, 'a closed locker could not end in good order'),
    )
  }

  /** Gives back what is left, and every resource. */
  async #settle(): Promise<void> {
    await Promise.all([this.#contention.idle(), this.#granting.idle()])
    await this.#waits.idle()
    await this.#line.close()
    await this.#releasing.idle()
    await this.#listening.close()
    await this.#store.close()
  }

  #assertOpen(): void {
    if (this.#closing !== null) throw new ClosedError(what)
  }

  #check(options: AcquireOptions | undefined): ResolvedAcquireOptions {
    const resolved = checkAcquireOptions(options, this)
    checkFinite(resolved.ttlMs)
    this.#assertOpen()
    resolved.signal?.throwIfAborted()
    return resolved
  }

  /**
   * A key that was held a moment ago is looked at first. A look leaves nothing to undo, so nobody stands in line for it, and
   * who closes meanwhile has nothing to give back.
   */
  #try(key: string, resolved: ResolvedAcquireOptions): Promise<Lock | null> {
    if (resolved.signal === undefined && this.#contention.remembers(key)) return this.#tryAgain(key, resolved)
    return this.#acquire(key, resolved, this.#once)
  }

  async #tryAgain(key: string, resolved: ResolvedAcquireOptions): Promise<Lock | null> {
    const isHeld = await this.#contention.isHeld(key, resolved.mode)
    if (this.#closing !== null) throw new ClosedError(what)
    return isHeld ? null : this.#acquire(key, resolved, this.#once)
  }

  /** At once where nobody is in the way and nothing can end the attempt but its own answer; else the longer way. */
  #acquire<T extends Lock | null>(key: string, resolved: ResolvedAcquireOptions, longer: Longer<T>): Promise<T | Lock> {
    const { waitTimeoutMs, signal } = resolved
    if (signal === undefined && (waitTimeoutMs === 0 || waitTimeoutMs === Number.POSITIVE_INFINITY)) {
      const request = this.#request(key, resolved)
      const turn = this.#acquiring.openDoor(request)
      if (turn !== null) return this.#atOnce({ request, turn }, resolved, longer)
    }
    return longer(key, resolved, null)
  }

  async #atOnce<T extends Lock | null>(
    begun: Begun,
    resolved: ResolvedAcquireOptions,
    longer: Longer<T>,
  ): Promise<T | Lock> {
    const { request } = begun
    const grant = await this.#acquiring.atOnce(begun)
    if (grant !== undefined) {
      const lock = this.#holding.hold({ request, grant }, resolved)
      if (this.#closing !== null) throw new ClosedError(what)
      return lock
    }
    if (this.#closing !== null) {
      begun.turn.leave()
      // The answer may have been lost, and nobody asks again.
      this.#releasing.abandon({ key: request.key, mode: request.mode, owner: request.owner, token: null })
      throw new ClosedError(what)
    }
    return longer(request.key, resolved, begun)
  }

  readonly #once: Longer<Lock | null> = (key, resolved, begun) =>
    this.#waits.within(patienceOf(key, resolved), async () => {
      const acquired = await this.#acquiring.once(begun?.request ?? this.#request(key, resolved), begun?.turn ?? null)
      return acquired === null ? null : this.#holding.hold(acquired, resolved)
    })

  readonly #wait: Longer<Lock> = (key, resolved, begun) =>
    this.#waits.within(patienceOf(key, resolved), async (limit) =>
      this.#holding.hold(await this.#acquiring.wait(() => this.#request(key, resolved), limit, begun), resolved),
    )

  async #all(keys: readonly string[], resolved: ResolvedAcquireOptions): Promise<readonly Lock[] | null> {
    const requests = keys.map((key) => this.#request(key, resolved))
    const grants = await this.#granting.attemptAll(requests, resolved.mode)
    return (
      grants?.map((grant, index) => this.#holding.hold({ request: requestOf(requests, index), grant }, resolved)) ??
      null
    )
  }

  #request(key: string, { mode, ttlMs, metadata }: ResolvedAcquireOptions): GrantRequest {
    return {
      key,
      owner: this.#owners.next(),
      mode,
      ttlMs,
      metadata: metadata === null ? null : JSON.stringify(metadata),
    }
  }
}

/** The way of a caller who may have to wait, or has to be told why not; takes over a turn at the door. */
type Longer<T> = (key: string, resolved: ResolvedAcquireOptions, begun: Begun | null) => Promise<T>

const patienceOf = (key: string, { waitTimeoutMs, signal }: ResolvedAcquireOptions) => ({
  key,
  waitTimeoutMs: waitTimeoutMs === 0 ? Number.POSITIVE_INFINITY : waitTimeoutMs,
  signal,
})

const requestOf = (requests: readonly GrantRequest[], index: number): GrantRequest => {
  const found = requests[index]
  if (found === undefined) throw new RangeError(`expected a request for grant ${index}`)
  return found
}
