import { expect, it } from 'vitest'
import { asksForEncryption, BackendMessages } from '../../src/faults/backend-messages.ts'
import { randomSource } from '../../src/faults/random-source.ts'

const message = (type: string, body: number[] = []): Buffer => {
  const buffer = Buffer.alloc(5 + body.length)
  buffer.write(type, 0, 'latin1')
  buffer.writeInt32BE(4 + body.length, 1)
  Buffer.from(body).copy(buffer, 5)
  return buffer
}
const reply = Buffer.concat([
  message('1'),
  message('2'),
  message('D', Array(300).fill(0x5a)),
  message('C', [1]),
  message('Z', [0x49]),
])

it('finds ReadyForQuery whatever the pieces, and not in the data', () => {
  const random = randomSource(7)
  for (let round = 0; round < 200; round += 1) {
    const messages = new BackendMessages()
    const found: number[] = []
    let at = 0
    while (at < reply.length) {
      const piece = reply.subarray(at, at + random.int(1, 60))
      const ready = messages.push(piece)
      if (ready >= 0) found.push(at + ready)
      at += piece.length
    }
    expect(found).toEqual([reply.length])
  }
})

it('steps over the answer to an encryption request, which is no message', () => {
  const request = Buffer.alloc(8)
  request.writeInt32BE(8, 0)
  request.writeInt32BE(80877103, 4)
  expect(asksForEncryption(request)).toBe(true)
  const messages = new BackendMessages()
  messages.expectEncryptionAnswer()
  expect(messages.push(Buffer.concat([Buffer.from('N'), reply]))).toBe(1 + reply.length)
})
