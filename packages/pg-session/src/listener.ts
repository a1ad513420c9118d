import { setTimeout as delay } from 'node:timers/promises'
import { ClosedError, type CoordinationError, hasErrorCode, type Logger } from '@x/lock-core'
import { monotonicNow } from '@x/lock-core/adapter'
import { type ConnectionSource, settingsFrom } from './connection-source.ts'
import { channelName } from './identifiers.ts'
import { ListenerConnection } from './listener-connection.ts'
import { defaultDetectMs } from './session.ts'
import { fromPgError } from './sqlstate.ts'
import type { Row, Statement } from './statement.ts'

export type ListenerState =
  /** Nothing to listen to yet. */
  | { readonly status: 'idle' }
  | { readonly status: 'connecting'; readonly attempt: number; readonly lastError: CoordinationError | null }
  | { readonly status: 'listening'; readonly pid: number }
  /** The server cannot deliver here (a transaction pooler, no LISTEN): final. */
  | { readonly status: 'refused'; readonly error: CoordinationError }
  | { readonly status: 'closed' }

/** Why it does not listen, in whichever state; null when nothing is known to be wrong. */
export function problemOf(state: ListenerState): CoordinationError | null {
  if (state.status === 'refused') return state.error
  return state.status === 'connecting' ? state.lastError : null
}

/** The listener's own connection, for session locks that must end with it. */
export interface ListenerSession {
  readonly pid: number
  query<R extends Row = Row>(statement: Statement, values: unknown[], options?: { timeoutMs?: number }): Promise<R[]>
}

export interface ListenerOptions {
  source: ConnectionSource
  /** Shown in `pg_stat_activity`. */
  applicationName: string
  /** Raw payloads, '' for none. What it throws is logged. */
  onNotification(channel: string, payload: string): void
  /**
   * After each (re)connect, before any notification of the new connection: read your state anew. `gapMs` is for how long
   * notifications may have been missed, 0 the first time.
   */
  onResync(event: { readonly gapMs: number; readonly first: boolean }): void
  /** As soon as it is known. */
  onStateChange?: ((state: ListenerState) => void) | undefined
  /** On each fresh connection, when it listens and before `onResync`; a rejection gives the connection up for another. */
  onConnected?: ((session: ListenerSession) => Promise<void>) | undefined
  /** Milliseconds after which silence means that the connection is lost. @default 5_000 */
  detectMs?: number | undefined
  /** 'session' = the pooler pins sessions; undefined refuses too, and does not mention the option. */
  pooler?: 'refuse' | 'session' | undefined
  /** Closes the listener. */
  signal?: AbortSignal | undefined
  logger?: Logger | undefined
}

/** Connects on the first `listen`, and stays connected until closed. */
export interface Listener {
  readonly state: ListenerState
  /**
   * Resolves when LISTEN took effect, however long that takes. Idempotent.
   *
   * @throws {PoolerDetectedError} {UnsupportedError} when the server cannot deliver here; {ClosedError}
   */
  listen(channel: string): Promise<void>
  unlisten(channel: string): Promise<void>
  /**
   * Whether the open connection alone keeps the process running, this one and those that replace it.
   * @default true
   */
  keepProcess(on: boolean): void
  /** Resolves when the connection is gone. Idempotent. */
  close(): Promise<void>
}

const firstBackoffMs = 100
const longestBackoffMs = 10_000

/**
 * Listens for as long as it is not closed: reconnects with jitter, endlessly, and says when notifications may have been
 * missed. A notification is a hint; `onResync` is where nothing is lost.
 *
 * @example
 * const listener = createListener({
 *   source, applicationName: 'orders', onResync: () => wake(), onNotification: () => wake(),
 * })
 * await listener.listen('orders')
 */
export function createListener(options: ListenerOptions): Listener {
  return new SupervisedListener(options)
}

class SupervisedListener implements Listener {
  readonly #options: ListenerOptions
  readonly #detectMs: number
  readonly #closing = new AbortController()
  /** Channel to the outcome of its LISTEN on some connection. */
  readonly #wanted = new Map<string, PromiseWithResolvers<void>>()
  #state: ListenerState = { status: 'idle' }
  #connection: ListenerConnection | null = null
  #keepsProcess = true
  #running: Promise<void> | null = null
  #pending: { readonly channel: string; readonly payload: string }[] = []

  constructor(options: ListenerOptions) {
    this.#options = options
    this.#detectMs = options.detectMs ?? defaultDetectMs
    if (options.signal?.aborted) void this.close()
    else options.signal?.addEventListener('abort', this.#onAbort, { once: true })
  }

  get state(): ListenerState {
    return this.#state
  }

  listen(channel: string): Promise<void> {
    if (this.#state.status === 'refused') return Promise.reject(this.#state.error)
    if (this.#closing.signal.aborted) return Promise.reject(new ClosedError('listener'))
    const name = channelName(channel)
    const known = this.#wanted.get(name)
    if (known !== undefined) return known.promise
    const outcome = Promise.withResolvers<void>()
    outcome.promise.catch(() => {})
    this.#wanted.set(name, outcome)
    this.#running ??= this.#run()
    // While connecting, the new connection takes up all that is wanted.
    if (this.#connection !== null) void this.#subscribe(this.#connection, name)
    return outcome.promise
  }

  async unlisten(channel: string): Promise<void> {
    const name = channelName(channel)
    const outcome = this.#wanted.get(name)
    if (outcome === undefined) return
    this.#wanted.delete(name)
    outcome.reject(new ClosedError(`channel ${name}`))
    // A connection that is lost meanwhile has forgotten the channel with everything else.
    await this.#connection?.unlisten(name).catch(() => {})
  }

  keepProcess(on: boolean): void {
    this.#keepsProcess = on
    this.#connection?.keepProcess(on)
  }

  async close(): Promise<void> {
    this.#options.signal?.removeEventListener('abort', this.#onAbort)
    this.#closing.abort(new ClosedError('listener'))
    for (const outcome of this.#wanted.values()) outcome.reject(new ClosedError('listener'))
    this.#pending = []
    await this.#running
    this.#enter({ status: 'closed' })
  }

  readonly #onAbort = (): void => void this.close()

  /** One connection after the other until closed or refused. */
  async #run(): Promise<void> {
    const { signal } = this.#closing
    let heardUntil: number | null = null
    this.#enter({ status: 'connecting', attempt: 1, lastError: null })
    for (let attempt = 1; !signal.aborted; attempt += 1) {
      try {
        const { connection, subscribed } = await this.#connect()
        const connectedAt = monotonicNow()
        this.#enter({ status: 'listening', pid: connection.pid })
        this.#resync(heardUntil)
        for (const outcome of subscribed) outcome.resolve()
        const lastError = await connection.ended
        heardUntil = connection.provenAt
        if (signal.aborted) break
        // One that is lost as soon as it listens counts as an attempt that failed: else we would connect in a tight loop.
        if (monotonicNow() - connectedAt >= this.#detectMs) attempt = 0
        this.#enter({ status: 'connecting', attempt: attempt + 1, lastError })
        this.#options.logger?.warn({ err: lastError }, 'listener: connection lost, connecting again')
      } catch (error) {
        if (signal.aborted) break
        const lastError = fromPgError(error, 'listener')
        if (isFinal(lastError)) {
          this.#refuse(lastError)
          return
        }
        this.#enter({ status: 'connecting', attempt: attempt + 1, lastError })
        this.#options.logger?.warn({ err: lastError, attempt }, 'listener: cannot connect, trying again')
      } finally {
        await this.#disconnect()
      }
      if (!signal.aborted) await pause(attempt, signal)
    }
  }

  async #connect(): Promise<{ connection: ListenerConnection; subscribed: PromiseWithResolvers<void>[] }> {
    const { source, applicationName, pooler, onConnected } = this.#options
    const { signal } = this.#closing
    const settings = await settingsFrom(source, { limitMs: this.#detectMs, signal })
    const connection = await ListenerConnection.open({
      settings,
      applicationName,
      detectMs: this.#detectMs,
      pooler,
      signal,
      onNotification: this.#enqueue,
    })
    this.#connection = connection
    connection.keepProcess(this.#keepsProcess)
    // Of this moment: a channel that comes later is subscribed by listen(), which has a connection from now on.
    const wanted = [...this.#wanted]
    for (const [channel] of wanted) await connection.listen(channel)
    if (onConnected !== undefined) {
      const { pid } = connection
      const query: ListenerSession['query'] = (statement, values, options) =>
        connection.query(statement, values, options?.timeoutMs)
      await connection.whileOpen(onConnected({ pid, query }))
    }
    return { connection, subscribed: wanted.map(([, outcome]) => outcome) }
  }

  async #subscribe(connection: ListenerConnection, channel: string): Promise<void> {
    try {
      await connection.listen(channel)
      this.#wanted.get(channel)?.resolve()
    } catch {
      // The connection is lost, and the next one takes the channel up; or it was closed, and everybody knows.
    }
  }

  async #disconnect(): Promise<void> {
    const connection = this.#connection
    this.#connection = null
    this.#pending = []
    await connection?.close()
  }

  #resync(heardUntil: number | null): void {
    const gapMs = heardUntil === null ? 0 : monotonicNow() - heardUntil
    this.#guarded('onResync', () => this.#options.onResync({ gapMs, first: heardUntil === null }))
    this.#deliver()
  }

  /** Called by the driver while it parses: nothing of the caller's may run here. */
  readonly #enqueue = (channel: string, payload: string): void => {
    this.#pending.push({ channel, payload })
    if (this.#pending.length === 1 && this.#state.status === 'listening') queueMicrotask(() => this.#deliver())
  }

  #deliver(): void {
    for (const { channel, payload } of this.#pending.splice(0)) {
      // Between UNLISTEN and its answer some may still arrive.
      if (!this.#wanted.has(channel)) continue
      this.#guarded('onNotification', () => this.#options.onNotification(channel, payload))
    }
  }

  #enter(state: ListenerState): void {
    if (this.#state.status === 'closed') return
    this.#state = state
    this.#guarded('onStateChange', () => this.#options.onStateChange?.(state))
  }

  #refuse(error: CoordinationError): void {
    this.#enter({ status: 'refused', error })
    for (const outcome of this.#wanted.values()) outcome.reject(error)
  }

  #guarded(what: string, callback: () => void): void {
    try {
      callback()
    } catch (error) {
      this.#options.logger?.error({ err: error }, `listener: ${what} threw`)
    }
  }
}

/** What no further attempt will change: a standby may be promoted, a pooler stays one. */
function isFinal(error: CoordinationError): boolean {
  return !error.retryable && (hasErrorCode(error, 'POOLER_DETECTED') || hasErrorCode(error, 'UNSUPPORTED'))
}

/** Nearly at once after the end of a connection that worked, but not all listeners of a server in the same moment. */
async function pause(attempt: number, signal: AbortSignal): Promise<void> {
  const mostMs = Math.min(firstBackoffMs * 2 ** Math.min(attempt, 20), longestBackoffMs)
  await delay(mostMs * (0.2 + 0.8 * Math.random()), undefined, { signal }).catch(() => {})
}
