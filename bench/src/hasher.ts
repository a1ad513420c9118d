import { randomBytes } from 'node:crypto'
import { lockId } from '@x/lock-core'
import type { Contender } from './benchmark.ts'
import { contender } from './contender.ts'
import { throughput } from './measure.ts'

/** The definition word for word. */
const byBigInt = (namespace: number, key: string): bigint => {
  const bytes = Buffer.concat([Buffer.alloc(4), Buffer.from(key)])
  bytes.writeInt32BE(namespace)
  let hash = 0xcbf29ce484222325n
  for (const byte of bytes) hash = ((hash ^ BigInt(byte)) * 0x100000001b3n) & 0xffffffffffffffffn
  return BigInt.asIntN(64, hash)
}

const hashing = (hash: (namespace: number, key: string) => bigint, ids: number): Contender =>
  contender({
    // 32 ASCII characters each.
    open: async () => Array.from({ length: 1_000 }, () => randomBytes(16).toString('hex')),
    round: (keys) =>
      throughput(ids, async () => {
        let sum = 0n
        for (let done = 0; done < ids; done += keys.length) {
          for (const key of keys) sum = hash(7, key)
        }
        // Read, so that the loop cannot be left out.
        if (sum === 0n) throw new Error('expected an id')
      }),
    close: async () => {},
  })

export const ourHasher: Contender = hashing(lockId, 1_000_000)
export const bigIntHasher: Contender = hashing(byBigInt, 20_000)
