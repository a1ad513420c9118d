import type { LockMode } from '../locker.ts'
import type { WaitLimit } from './wait-limit.ts'

/** The right to a key within this process, from `enter` until `leave`. */
export interface Turn {
  readonly key: string
  readonly mode: LockMode
  /** Passes the key on to whoever is next in line; calling it again does nothing. */
  leave(): void
}

interface Line {
  active: number
  activeMode: LockMode
  head: Waiter | null
  tail: Waiter | null
  waiting: number
}

/**
 * Empty lines that are kept for the next one who comes. A map that grows and shrinks all the time costs more than its
 * entries: its old tables keep garbage from being collected young.
 */
const keptLines = 2_048

/**
 * Who may go for a key within this process: one FIFO line per key with both modes in it (two lines would starve writers).
 * Neighbouring shared waiters run together; nobody overtakes a waiter, not even a shared newcomer while shared holders
 * are in and an exclusive waiter stands in line. A waiter that gives up leaves at once and delays nobody.
 */
export class WaitQueue {
  readonly #lines = new Map<string, Line>()
  #empty = 0

  /** The turn, when nobody is in the way; null when `enter` would wait. */
  tryEnter(key: string, mode: LockMode): Turn | null {
    const line = this.#lines.get(key)
    if (line === undefined) {
      const fresh: Line = { active: 1, activeMode: mode, head: null, tail: null, waiting: 0 }
      this.#lines.set(key, fresh)
      return new HeldTurn(this, key, mode)
    }
    if (line.head !== null || !admits(line, mode)) return null
    if (line.active === 0) this.#empty -= 1
    line.active += 1
    line.activeMode = mode
    return new HeldTurn(this, key, mode)
  }

  /**
   * Waits in line for the turn.
   * @throws whatever ends the limit: the signal's reason, or {LockTimeoutError}; also the error given to `close`
   */
  enter(key: string, mode: LockMode, limit?: WaitLimit): Promise<Turn> {
    const over = limit?.over()
    if (over !== undefined) return Promise.reject(over.error)
    const turn = this.tryEnter(key, mode)
    if (turn !== null) return Promise.resolve(turn)
    return new Promise((resolve, reject) => {
      const line = this.#lines.get(key)
      if (line === undefined) return
      const waiter: Waiter = { mode, resolve, reject, previous: line.tail, next: null, unsubscribe: null }
      if (line.tail === null) line.head = waiter
      else line.tail.next = waiter
      line.tail = waiter
      line.waiting += 1
      waiter.unsubscribe =
        limit?.onOver((error) => {
          unlink(line, waiter)
          reject(error)
          // The one who left may have been all that kept shared waiters behind him from joining shared holders.
          this.#admit(key, line)
        }) ?? null
    })
  }

  /** How many stand in line for the key; those whose turn it is do not count. */
  waiting(key: string): number {
    return this.#lines.get(key)?.waiting ?? 0
  }

  /** How many have their turn: 1 for exclusive, any number for shared. */
  active(key: string): number {
    return this.#lines.get(key)?.active ?? 0
  }

  /** Keys that somebody has or waits for. */
  *keys(): IterableIterator<string> {
    for (const [key, line] of this.#lines) if (!isEmpty(line)) yield key
  }

  /** Rejects all who wait. Those who have their turn keep it. */
  rejectAll(error: (key: string) => unknown): void {
    for (const [key, line] of this.#lines) {
      for (let waiter = line.head; waiter !== null; waiter = line.head) {
        waiter.unsubscribe?.()
        unlink(line, waiter)
        waiter.reject(error(key))
      }
    }
  }

  /** @internal */
  leave(key: string): void {
    const line = this.#lines.get(key)
    if (line === undefined) return
    line.active -= 1
    this.#admit(key, line)
  }

  #admit(key: string, line: Line): void {
    for (let waiter = line.head; waiter !== null && admits(line, waiter.mode); waiter = line.head) {
      waiter.unsubscribe?.()
      unlink(line, waiter)
      line.active += 1
      line.activeMode = waiter.mode
      waiter.resolve(new HeldTurn(this, key, waiter.mode))
    }
    if (!isEmpty(line)) return
    this.#empty += 1
    if (this.#empty > keptLines) this.#forgetEmpty()
  }

  #forgetEmpty(): void {
    for (const [key, line] of this.#lines) if (isEmpty(line)) this.#lines.delete(key)
    this.#empty = 0
  }
}

interface Waiter {
  readonly mode: LockMode
  readonly resolve: (turn: Turn) => void
  readonly reject: (error: unknown) => void
  previous: Waiter | null
  next: Waiter | null
  unsubscribe: (() => void) | null
}

class HeldTurn implements Turn {
  readonly key: string
  readonly mode: LockMode
  #queue: WaitQueue | null

  constructor(queue: WaitQueue, key: string, mode: LockMode) {
    this.#queue = queue
    this.key = key
    this.mode = mode
  }

  leave(): void {
    const queue = this.#queue
    this.#queue = null
    queue?.leave(this.key)
  }
}

function isEmpty(line: Line): boolean {
  return line.active === 0 && line.head === null
}

function admits(line: Line, mode: LockMode): boolean {
  return line.active === 0 || (mode === 'shared' && line.activeMode === 'shared')
}

function unlink(line: Line, waiter: Waiter): void {
  if (waiter.previous === null) line.head = waiter.next
  else waiter.previous.next = waiter.next
  if (waiter.next === null) line.tail = waiter.previous
  else waiter.next.previous = waiter.previous
  line.waiting -= 1
}
