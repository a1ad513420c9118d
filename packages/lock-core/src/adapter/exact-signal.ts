/** An abort controller whose signal is right at the moment it is read. */
export interface ExactController {
  readonly signal: AbortSignal
  abort(reason: unknown): void
}

/**
 * An `AbortController` whose signal calls `settle` before it answers: `settle` aborts it when a deadline has passed in the
 * meantime. A timer alone is late after a blocked event loop or a stopped process: user code may run before it.
 */
export function createExactController(settle: () => void): ExactController {
  const controller = new AbortController()
  const { signal } = controller
  const prototype = Object.getPrototypeOf(signal)
  const readExactly = (property: 'aborted' | 'reason'): PropertyDescriptor => ({
    configurable: true,
    enumerable: false,
    get(): unknown {
      settle()
      return Reflect.get(prototype, property, signal)
    },
  })
  Object.defineProperties(signal, {
    aborted: readExactly('aborted'),
    reason: readExactly('reason'),
    throwIfAborted: {
      configurable: true,
      enumerable: false,
      value(): void {
        if (signal.aborted) throw signal.reason
      },
    },
  })
  return controller
}
