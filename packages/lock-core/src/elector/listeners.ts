import type { Unsubscribe } from '../observability.ts'

/** Listeners by event. One that throws does not keep the others from hearing. */
export class Listeners<Events extends { [E in keyof Events]: readonly unknown[] }> {
  readonly #byEvent: { [E in keyof Events]?: Set<(...args: Events[E]) => void> } = {}
  readonly #onError: (error: unknown, event: keyof Events) => void

  constructor(onError: (error: unknown, event: keyof Events) => void) {
    this.#onError = onError
  }

  on<E extends keyof Events>(event: E, listener: (...args: Events[E]) => void): Unsubscribe {
    const listeners = this.#byEvent[event] ?? new Set()
    this.#byEvent[event] = listeners
    // A wrapper of its own: the same function may listen twice, and each subscription ends by itself.
    const own = (...args: Events[E]): void => listener(...args)
    listeners.add(own)
    return () => {
      listeners.delete(own)
    }
  }

  emit<E extends keyof Events>(event: E, ...args: Events[E]): void {
    for (const listener of [...(this.#byEvent[event] ?? [])]) {
      try {
        listener(...args)
      } catch (error) {
        this.#onError(error, event)
      }
    }
  }
}
