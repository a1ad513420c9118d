import type { Unsubscribe } from '@x/lock-core'

/** Listeners by type. A listener that throws harms neither the others nor us. */
export class Listeners<Events extends { readonly type: string }> {
  readonly #byType = new Map<string, Set<(event: Events) => void>>()
  readonly #onError: (error: unknown, type: string) => void

  constructor(onError: (error: unknown, type: string) => void) {
    this.#onError = onError
  }

  add<T extends Events['type']>(type: T, listener: (event: Extract<Events, { type: T }>) => void): Unsubscribe {
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
