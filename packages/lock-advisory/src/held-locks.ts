/** What a lock carries to be in the list. */
export interface Links<L> {
  /** Whether it is in the list, and its neighbours there. */
  listed: boolean
  previous: L | null
  next: L | null
}

/**
 * The locks of a session. A list through the grants, not a Set: a Set that grows and shrinks with each burst leaves tables
 * behind that keep garbage alive until the next full collection.
 */
export class HeldLocks<L extends { readonly grant: Links<L> }> implements Iterable<L> {
  #first: L | null = null
  #size = 0

  get size(): number {
    return this.#size
  }

  add(lock: L): void {
    lock.grant.listed = true
    lock.grant.next = this.#first
    if (this.#first !== null) this.#first.grant.previous = lock
    this.#first = lock
    this.#size += 1
  }

  /** Tells whether it was there. */
  delete(lock: L): boolean {
    const { listed, previous, next } = lock.grant
    if (!listed) return false
    lock.grant.listed = false
    if (previous === null) this.#first = next
    else previous.grant.next = next
    if (next !== null) next.grant.previous = previous
    lock.grant.previous = null
    lock.grant.next = null
    this.#size -= 1
    return true
  }

  *[Symbol.iterator](): Iterator<L> {
    for (let lock = this.#first; lock !== null; lock = lock.grant.next) yield lock
  }
}
