import { ConfigurationError, type Unsubscribe } from '@x/lock-core'
import { describeValue } from '@x/lock-core/adapter'

/** Listeners by type. A listener that throws harms neither the others nor us. */
export class Listeners<Events extends { readonly type: string }> {
  readonly #byType = new Map<string, Set<(event: Events) => void>>()
  readonly #types: readonly Events['type'][]
  readonly #onError: (error: unknown, type: string) => void

  constructor(types: readonly Events['type'][], onError: (error: unknown, type: string) => void) {
    this.#types = types
    this.#onError = onError
  }

  /** @throws {ConfigurationError} for a type that never comes, and for a listener that cannot be called */
  add<T extends Events['type']>(type: T, listener: (event: Extract<Events, { type: T }>) => void): Unsubscribe {
    if (!this.#types.includes(type)) {
      throw new ConfigurationError(`on: expected one of ${this.#types.join(', ')}; got ${describeValue(type)}`, {
        option: 'type',
      })
    }
    if (typeof listener !== 'function') {
      throw new ConfigurationError(`on: expected a function to call; got ${describeValue(listener)}`, {
        option: 'listener',
      })
    }
    const listeners = this.#byType.get(type) ?? new Set()
    this.#byType.set(type, listeners)
    const guarded = (event: Events): void => {
      if (isOf(event, type)) listener(event)
    }
    listeners.add(guarded)
    return () => listeners.delete(guarded)
  }

  emit(event: Events): void {
    for (const listener of [...(this.#byType.get(event.type) ?? [])]) {
      try {
        listener(event)
      } catch (error) {
        this.#onError(error, event.type)
      }
    }
  }
}

function isOf<E extends { readonly type: string }, T extends E['type']>(
  event: E,
  type: T,
): event is Extract<E, { type: T }> {
  return event.type === type
}
