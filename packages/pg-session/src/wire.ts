import { ClosedError, ConnectionError, type CoordinationError } from '@x/lock-core'
import { monotonicNow } from '@x/lock-core/adapter'
import type pg from 'pg'
import { destroyClient, endClient, keepProcess } from './client.ts'
import { plainTypes } from './plain-types.ts'
import { fromPgError, isAnswer } from './sqlstate.ts'
import type { Row, Statement } from './statement.ts'

export interface WireOptions {
  /** Time after which silence means that the connection is lost. */
  readonly detectMs: number
  /** For messages, such as `session` or `listener`. */
  readonly what: string
  /** Asked when nothing else proved life for a third of `detectMs`; a rejection gives the connection up. */
  readonly heartbeat: () => Promise<unknown>
  /** Called once, when the connection is lost; not on `close()`. */
  readonly onLost: (error: CoordinationError) => void
}

type WireState =
  | { readonly status: 'open' }
  | { readonly status: 'lost'; readonly error: CoordinationError }
  | { readonly status: 'closed'; readonly error: CoordinationError; readonly done: Promise<void> }

interface Request {
  readonly what: string
  /** Sends it; `answered` is called once with the outcome. */
  readonly send: (client: pg.Client, answered: Answered) => void
  readonly timeoutMs: number
  readonly resolve: (result: never) => void
  readonly reject: (error: unknown) => void
  sentAt: number
  expiresAt: number
}

type Answered = (error: unknown, result?: unknown) => void

/**
 * One connected client under watch: statements go one after the other, a single timer watches over all of them, and the
 * connection is believed in only until `trustedUntil`, counted from *before* the sending of the last request that was
 * answered (River's `trustedUntil`). A request costs two readings of the clock over the bare driver.
 */
export class Wire {
  readonly #client: pg.Client
  readonly #options: WireOptions
  readonly #queue: Request[] = []
  #active: Request | null = null
  #state: WireState = { status: 'open' }
  #provenAt: number
  #timer: NodeJS.Timeout | undefined
  #wakesAt = Number.POSITIVE_INFINITY

  /** @param connectedAt instant before the first byte was sent */
  constructor(client: pg.Client, connectedAt: number, options: WireOptions) {
    this.#client = client
    this.#options = options
    this.#provenAt = connectedAt
    client.on('error', (error) => this.lose(error))
    client.on('end', () =>
      this.lose(
        new ConnectionError(
          `${options.what}: expected the connection to last, got its end; see the server's log, or that of what stands between`,
        ),
      ),
    )
    this.#wakeAt(monotonicNow() + options.detectMs / 3)
  }

  /** The instant until which the connection may be believed in; while a statement may block, when it is given up. */
  get trustedUntil(): number {
    const active = this.#active
    return active !== null && active.timeoutMs > this.#options.detectMs
      ? active.expiresAt
      : this.#provenAt + this.#options.detectMs
  }

  /** The last instant at which the connection is known to have worked. */
  get provenAt(): number {
    return this.#provenAt
  }

  isAlive(): boolean {
    return this.#state.status === 'open' && monotonicNow() < this.trustedUntil
  }

  /** Runs a statement; rows come as arrays. */
  query<R extends Row>(
    statement: Statement,
    values: unknown[],
    timeoutMs: number = this.#options.detectMs,
  ): Promise<R[]> {
    return new Promise((resolve, reject) => {
      this.#submit({
        what: statement.name,
        send: (client, answered) =>
          client.query(
            { name: statement.name, text: statement.text, values, rowMode: 'array', types: plainTypes },
            (error, result) => answered(error, result?.rows),
          ),
        timeoutMs,
        resolve,
        reject,
        sentAt: 0,
        expiresAt: 0,
      })
    })
  }

  /** Takes its turn for something that talks to the client itself. */
  run<T>(what: string, fn: (client: pg.Client) => Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      this.#submit({
        what,
        send: (client, answered) => fn(client).then((result) => answered(null, result), answered),
        timeoutMs: this.#options.detectMs,
        resolve,
        reject,
        sentAt: 0,
        expiresAt: 0,
      })
    })
  }

  /** Gives the connection up; what is in flight rejects. The first reason stands. */
  lose(reason: unknown): void {
    if (this.#state.status !== 'open') return
    const error = fromPgError(reason, `${this.#options.what}: connection lost`)
    this.#state = { status: 'lost', error }
    this.#stop(() => error)
    // Listeners may have been removed with ours (pg-listen does so), and a dying client can emit more than one error.
    this.#client.on('error', () => {})
    destroyClient(this.#client)
    this.#options.onLost(error)
  }

  /** Whether the open connection alone keeps the process running. @default true */
  keepProcess(on: boolean): void {
    if (this.#state.status === 'open') keepProcess(this.#client, on)
  }

  /** Ends the connection; what is in flight rejects with `reason`. Resolves when the socket is closed. Idempotent. */
  close(reason: CoordinationError = new ClosedError(this.#options.what)): Promise<void> {
    const state = this.#state
    if (state.status === 'closed') return state.done
    // Somebody waits for the end.
    this.keepProcess(true)
    // A client that is busy, as one blocked in a statement, is destroyed by its end().
    const done = endClient(this.#client)
    this.#state = { status: 'closed', error: reason, done }
    this.#stop(() => reason)
    return done
  }

  #submit(request: Request): void {
    const state = this.#state
    if (state.status !== 'open') {
      request.reject(state.error)
      return
    }
    // Our own queue: the driver's is deprecated, and a statement that waits is not yet sent.
    if (this.#active === null) this.#send(request)
    else this.#queue.push(request)
  }

  #send(request: Request): void {
    this.#active = request
    request.sentAt = monotonicNow()
    request.expiresAt = request.sentAt + request.timeoutMs
    if (request.expiresAt < this.#wakesAt) this.#wakeAt(request.expiresAt)
    try {
      request.send(this.#client, this.#answered)
    } catch (error) {
      this.#answered(error)
    }
  }

  readonly #answered: Answered = (error, result) => {
    const request = this.#active
    // After a loss or a close the driver still reports what was in flight.
    if (request === null) return
    // What the server did not say proves no life, and the server may still be at it: so with query_timeout of the driver.
    if (error !== null && error !== undefined && !isAnswer(error)) {
      this.lose(error)
      return
    }
    const blocked = request.timeoutMs > this.#options.detectMs
    if (!blocked && monotonicNow() >= this.trustedUntil) {
      this.lose(tooLate(this.#options))
      return
    }
    // An answer proves that the session lived when the request was sent. One that was allowed to block may have been sent
    // long ago; that the server answered it now is what is known.
    this.#provenAt = blocked ? monotonicNow() : request.sentAt
    // The watch sleeps for as long as a statement may block; without this nothing would ask for a sign of life afterwards.
    if (blocked) this.#wakeAt(this.#provenAt + this.#options.detectMs / 3)
    this.#active = null
    const next = this.#queue.shift()
    if (next !== undefined) this.#send(next)
    if (error === null || error === undefined) request.resolve(result as never)
    else request.reject(fromPgError(error, `statement ${request.what}`))
  }

  #wakeAt(instant: number): void {
    clearTimeout(this.#timer)
    this.#wakesAt = instant
    // One millisecond more: a timer may fire a little early, and would then be set again for nothing.
    this.#timer = setTimeout(this.#watch, Math.min(Math.max(instant - monotonicNow(), 0) + 1, 2_147_483_647))
    this.#timer.unref()
  }

  readonly #watch = (): void => {
    const now = monotonicNow()
    const active = this.#active
    if (now >= this.trustedUntil) {
      this.lose(tooLate(this.#options))
    } else if (active !== null) {
      if (now < active.expiresAt) this.#wakeAt(Math.min(active.expiresAt, this.trustedUntil))
      else
        this.lose(
          new ConnectionError(
            `${this.#options.what}: expected an answer to ${active.what} within ${active.timeoutMs} ms, got none; its connection was closed, and it may have been carried out`,
          ),
        )
    } else if (now < this.#provenAt + this.#options.detectMs / 3) {
      this.#wakeAt(this.#provenAt + this.#options.detectMs / 3)
    } else {
      this.#options.heartbeat().catch((error: unknown) => this.lose(error))
      this.#wakeAt(this.trustedUntil)
    }
  }

  #stop(reason: () => unknown): void {
    clearTimeout(this.#timer)
    const active = this.#active
    this.#active = null
    active?.reject(reason())
    for (const request of this.#queue.splice(0)) request.reject(reason())
  }
}

function tooLate({ what, detectMs }: WireOptions): ConnectionError {
  return new ConnectionError(
    `${what}: expected a sign of life within ${detectMs} ms, got none; look for a broken network and a blocked event loop`,
  )
}
