import type { WaitLimit } from '@x/lock-core/adapter'

/** A timer of Node.js that is set to more than this fires at once. */
const longestDelayMs = 2_147_483_647

/** Lets one waiter sleep until it is rung for, some time has passed, or its limit is over. A ring before the sleep counts. */
export class Alarm implements Disposable {
  readonly #stop: () => void
  #rung = false
  #wake: (() => void) | null = null

  constructor(limit: WaitLimit) {
    this.#stop = limit.onOver(() => this.ring())
    if (limit.over() !== undefined) this.#rung = true
  }

  readonly ring = (): void => {
    this.#rung = true
    this.#wake?.()
  }

  /** Forgets rings of the past: whoever calls it looks at the world next. */
  clear(): void {
    this.#rung = false
  }

  /** Tells whether it was rung for. */
  async sleep(ms: number): Promise<boolean> {
    if (!this.#rung) {
      let timer: NodeJS.Timeout | undefined
      await new Promise<void>((resolve) => {
        this.#wake = resolve
        timer = setTimeout(resolve, Math.min(ms, longestDelayMs))
      })
      clearTimeout(timer)
      this.#wake = null
    }
    return this.#rung
  }

  [Symbol.dispose](): void {
    this.#stop()
  }
}
