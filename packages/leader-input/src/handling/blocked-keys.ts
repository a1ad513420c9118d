import { keyIdentity, type LoggedChange } from '../event.ts'

type Subject = Pick<LoggedChange, 'location' | 'operation' | 'key' | 'oldKey'>

/**
 * The keys that parked events hold back: what comes later for one of them has to be parked too, or it would overtake.
 * A change of the key holds back both keys; an event without a key, and a truncate, hold back the whole table.
 */
export class BlockedKeys {
  readonly #tables: Map<string, Set<string> | 'all'>

  constructor(tables: ReadonlyMap<string, Set<string> | 'all'> = new Map()) {
    this.#tables = new Map([...tables].map(([location, keys]) => [location, keys === 'all' ? keys : new Set(keys)]))
  }

  get isEmpty(): boolean {
    return this.#tables.size === 0
  }

  copy(): BlockedKeys {
    return new BlockedKeys(this.#tables)
  }

  /** Whether this event has to wait behind a parked one. */
  blocks({ location, operation, key, oldKey }: Subject): boolean {
    const keys = this.#tables.get(location)
    if (keys === undefined) return false
    const id = keyIdentity(key)
    if (keys === 'all' || operation === 'truncate' || id === null) return true
    const oldId = keyIdentity(oldKey)
    return keys.has(id) || (oldId !== null && keys.has(oldId))
  }

  block({ location, operation, key, oldKey }: Subject): void {
    const id = keyIdentity(key)
    if (operation === 'truncate' || id === null) {
      this.#tables.set(location, 'all')
      return
    }
    const keys = this.#tables.get(location) ?? new Set()
    if (keys === 'all') return
    const oldId = keyIdentity(oldKey)
    this.#tables.set(location, oldId === null ? keys.add(id) : keys.add(id).add(oldId))
  }
}
