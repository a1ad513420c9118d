/**
 * Follows what a PostgreSQL server sends, message by message, whatever the pieces it arrives in. Protocol 3: one byte
 * of type, four bytes of length that count themselves, then the body. The one exception is the single byte with which a
 * server answers an SSLRequest or GSSENCRequest.
 */
export class BackendMessages {
  #header: number[] = []
  #type = 0
  #remaining = 0
  #encryptionAnswers = 0

  /** The client asked for encryption: the server's next byte stands alone. */
  expectEncryptionAnswer(): void {
    this.#encryptionAnswers += 1
  }

  /** Reads a piece; returns the offset just behind the first ReadyForQuery that ends in it, or -1. */
  push(piece: Uint8Array): number {
    let ready = -1
    let at = 0
    while (at < piece.length) {
      if (this.#remaining > 0) {
        const taken = Math.min(this.#remaining, piece.length - at)
        this.#remaining -= taken
        at += taken
        if (this.#remaining === 0 && this.#type === 0x5a && ready < 0) ready = at
        continue
      }
      const byte = piece[at] ?? 0
      at += 1
      if (this.#header.length === 0 && this.#encryptionAnswers > 0) {
        this.#encryptionAnswers -= 1
        continue
      }
      this.#header.push(byte)
      if (this.#header.length === 5) {
        const [type = 0, a = 0, b = 0, c = 0, d = 0] = this.#header
        this.#type = type
        this.#remaining = a * 2 ** 24 + b * 2 ** 16 + c * 2 ** 8 + d - 4
        this.#header = []
      }
    }
    return ready
  }
}

/** Whether the first bytes of a client ask for encryption (SSLRequest or GSSENCRequest). */
export const asksForEncryption = (piece: Uint8Array): boolean => {
  const view = new DataView(piece.buffer, piece.byteOffset, piece.byteLength)
  return piece.length === 8 && view.getInt32(0) === 8 && [80877103, 80877104].includes(view.getInt32(4))
}
