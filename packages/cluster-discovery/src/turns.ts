/** Lets asynchronous work happen one after the other, in the order in which it was asked for. */
export class Turns {
  #last: Promise<unknown> = Promise.resolve()

  /** Resolves when all that was asked for so far has ended, well or not. */
  get over(): Promise<unknown> {
    return this.#last
  }

  take<T>(fn: () => Promise<T>): Promise<T> {
    const result = this.#last.then(fn)
    this.#last = result.catch(() => {})
    return result
  }
}
