import { ksuid } from '@x/lock-core/adapter'

const alphabet = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz'
const counterDigits = 8

/** Names for what one process is granted: its KSUID, with a counter in the last digits. */
export class Owners {
  /** The process itself, as the line knows it. */
  readonly sessionId: string
  /** What all names of the process are like, in the sense of LIKE. Base 62 has no characters that mean something there. */
  readonly pattern: string
  readonly #prefix: string
  #count = 0

  constructor(id: string = ksuid()) {
    this.#prefix = id.slice(0, -counterDigits)
    this.pattern = `${this.#prefix}%`
    this.sessionId = this.next()
  }

  /** 27 characters, never given again; a KSUID for each would cost more than the rest of a grant. */
  next(): string {
    let rest = this.#count
    this.#count += 1
    let digits = ''
    for (let position = 0; position < counterDigits; position += 1) {
      digits = alphabet.charAt(rest % 62) + digits
      rest = Math.floor(rest / 62)
    }
    return this.#prefix + digits
  }
}
