import { ClosedError } from '@x/lock-core'
import type { OwnLock } from './inspect.ts'
import type { SessionContext } from './session-context.ts'
import { SessionLocks } from './session-locks.ts'

type MainSession =
  | { readonly kind: 'none' }
  | { readonly kind: 'opening'; readonly opened: Promise<SessionLocks> }
  | { readonly kind: 'open'; readonly session: SessionLocks }

const none: MainSession = { kind: 'none' }

/** Milliseconds without use after which the connection does not keep the process running any more. */
const restAfterMs = 50

/** What the sessions of a locker need to know of it. */
export interface SessionsContext extends Omit<SessionContext<SessionLocks>, 'onEnded'> {
  readonly idleMs: number
  /** Whether somebody waits, so that the session is of use although nothing is held in it. */
  isNeeded(): boolean
}

/** The sessions of a locker: the main one, through which everything goes, and those that wait in the server's queue. */
export class Sessions {
  readonly #context: SessionsContext
  readonly #closing = new AbortController()
  readonly #all = new Set<SessionLocks>()
  #main: MainSession = none
  #fencing: SessionLocks['fencing']['kind'] | null = null
  #idleSince = 0
  #idleTimer: NodeJS.Timeout | undefined

  constructor(context: SessionsContext) {
    this.#context = context
  }

  /** The main session, when there is one; it may have died unnoticed. */
  get current(): SessionLocks | null {
    return this.#main.kind === 'open' ? this.#main.session : null
  }

  /** How the last session that was opened draws tokens. */
  get fencing(): SessionLocks['fencing']['kind'] | null {
    return this.#fencing
  }

  /** All that are open. */
  all(): IterableIterator<SessionLocks> {
    return this.#all.values()
  }

  /**
   * Tells the locks of this locker under an id, by session, as of now. One walk over all that is held, however many ids are
   * asked for: one for each of 10,000 ids would block the event loop for longer than a session may be silent.
   */
  own(): (id: string) => readonly OwnLock[] {
    const sessions = [...this.#all].map(({ pid, held }) => ({ pid, byId: Map.groupBy(held, (lock) => lock.grant.id) }))
    return (id) =>
      sessions.map(({ pid, byId }) => ({ pid, locks: (byId.get(id) ?? []).filter((lock) => lock.isHeld()) }))
  }

  /** The session that everything but blocked waiting goes through; opened when there is none. */
  main(): Promise<SessionLocks> {
    const main = this.#main
    if (main.kind === 'open' && main.session.isAlive()) return Promise.resolve(main.session)
    if (main.kind === 'opening') return main.opened
    const opened = this.open()
    this.#main = { kind: 'opening', opened }
    opened.then(
      (session) => {
        this.#main = { kind: 'open', session }
      },
      () => {
        this.#main = none
      },
    )
    return opened
  }

  /** One more session, for who blocks in it. */
  async open(): Promise<SessionLocks> {
    this.#closing.signal.throwIfAborted()
    const context: SessionContext<SessionLocks> = { ...this.#context, onEnded: (ended) => this.#forget(ended) }
    const session = await SessionLocks.open(context, this.#closing.signal)
    this.#fencing = session.fencing.kind
    // One that has ended in the meantime would never be forgotten; whoever asked for it finds out.
    if (session.isAlive()) this.#all.add(session)
    return session
  }

  /** Looks once in a while whether the session is of use to anybody; a release must not pay for a timer. */
  noteIdle(): void {
    if (this.#closing.signal.aborted || this.#main.kind !== 'open' || !this.#isUnused(this.#main.session)) return
    this.#idleSince = performance.now()
    this.#idleTimer ??= this.#lookIn(Math.min(restAfterMs, this.#context.idleMs))
  }

  /** Every lock ends before this returns; resolves when the connections are closed. */
  async close(): Promise<void> {
    clearTimeout(this.#idleTimer)
    const opening = this.#main.kind === 'opening' ? this.#main.opened : null
    this.#closing.abort(new ClosedError('advisory locker'))
    await Promise.all([...this.#all].map((session) => session.close('closed')))
    // One that was about to open may still have come.
    await opening?.catch(() => {})
    await Promise.all([...this.#all].map((session) => session.close('closed')))
  }

  #lookIn(ms: number): NodeJS.Timeout {
    return setTimeout(() => {
      this.#idleTimer = undefined
      if (this.#main.kind !== 'open') return
      const { session } = this.#main
      // Whoever uses it now notes when he is done.
      if (!this.#isUnused(session)) return
      const idleForMs = performance.now() - this.#idleSince
      const restMs = this.#context.idleMs - idleForMs
      if (restMs > 0 || !session.isIdle()) {
        if (idleForMs >= restAfterMs) session.rest()
        this.#idleTimer = this.#lookIn(Math.max(idleForMs < restAfterMs ? restAfterMs - idleForMs : restMs, 1))
        return
      }
      this.#main = none
      session.close().catch(() => {})
    }, Math.ceil(ms)).unref()
  }

  #isUnused(session: SessionLocks): boolean {
    return session.held.size === 0 && !this.#context.isNeeded()
  }

  #forget(session: SessionLocks): void {
    this.#all.delete(session)
    if (this.#main.kind === 'open' && this.#main.session === session) this.#main = none
  }
}
