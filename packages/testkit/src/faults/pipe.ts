import type { Socket } from 'node:net'

/** What a direction of a connection does with the bytes that it is given. */
export interface PipeFaults {
  delayMs: number
  /** Infinity: no limit. */
  bytesPerSecond: number
  /** Bytes wait until the fault ends, as on a network that retransmits. */
  held: boolean
}

export const noFaults = (): PipeFaults => ({
  delayMs: 0,
  bytesPerSecond: Number.POSITIVE_INFINITY,
  held: false,
})

interface Entry {
  /** Null: the sending side ended. */
  readonly piece: Uint8Array | null
  readonly dueAt: number
}

/** One direction: writes to `target` in order, late, slowly, or not at all. */
export class Pipe {
  readonly faults: PipeFaults
  readonly #source: Socket
  readonly #target: Socket
  readonly #queue: Entry[] = []
  #timer: NodeJS.Timeout | null = null
  #freeAt = 0
  #deaf = false

  constructor(source: Socket, target: Socket, faults: PipeFaults) {
    this.#source = source
    this.#target = target
    this.faults = faults
  }

  push(piece: Uint8Array | null): void {
    if (this.#deaf) return
    const now = performance.now()
    this.#queue.push({ piece, dueAt: now + this.faults.delayMs })
    this.flush()
  }

  /** Sends what is due; called again when a fault ends. */
  flush(): void {
    if (this.#timer) clearTimeout(this.#timer)
    this.#timer = null
    while (this.#queue.length > 0 && !this.faults.held) {
      const [entry] = this.#queue
      if (!entry || this.#target.destroyed) return
      const wait = Math.max(entry.dueAt, this.#freeAt) - performance.now()
      if (wait > 0) {
        this.#timer = setTimeout(() => this.flush(), Math.ceil(wait))
        return
      }
      this.#queue.shift()
      this.#send(entry)
    }
  }

  #send({ piece, dueAt }: Entry): void {
    if (piece === null) {
      this.#target.end()
      return
    }
    const { bytesPerSecond } = this.faults
    if (Number.isFinite(bytesPerSecond)) {
      // A hundredth of a second at a time, so that a slow line is slow within one large reply too.
      const share = Math.max(1, Math.floor(bytesPerSecond / 100))
      const now = piece.subarray(0, share)
      this.#freeAt = performance.now() + (now.length / bytesPerSecond) * 1_000
      if (piece.length > share) this.#queue.unshift({ piece: piece.subarray(share), dueAt })
      this.#target.write(now)
      return
    }
    if (!this.#target.write(piece)) {
      this.#source.pause()
      this.#target.once('drain', () => this.#source.resume())
    }
  }

  /** Half-open: bytes are gone from now on, and so is the news that the sending side ended. */
  swallow(): void {
    this.#deaf = true
    this.destroy()
  }

  get isDeaf(): boolean {
    return this.#deaf
  }

  destroy(): void {
    if (this.#timer) clearTimeout(this.#timer)
    this.#queue.length = 0
  }
}
