import { describe, expect, it } from 'vitest'
import { Mesh } from '../../src/mesh.ts'
import { ManualClock } from '../manual-clock.ts'

interface Peer {
  readonly id: string
  readonly life: bigint
}
const peer = (id: string, life = 1n): Peer => ({ id, life })
const make = (connect: (peer: Peer, signal: AbortSignal) => Promise<void>) => {
  const clock = new ManualClock()
  const calls: string[] = []
  const mesh = new Mesh<Peer>({
    idOf: ({ id }) => id,
    incarnationOf: ({ life }) => life,
    clock,
    random: () => 1,
    connect: (each, signal) => {
      calls.push(`connect ${each.id}${each.life}`)
      return connect(each, signal)
    },
    disconnect: (each) => {
      calls.push(`disconnect ${each.id}${each.life}`)
    },
  })
  return { clock, calls, mesh }
}
const never = (_: Peer, signal: AbortSignal): Promise<void> =>
  new Promise((_resolve, reject) => signal.addEventListener('abort', () => reject(signal.reason)))

describe('a mesh', () => {
  it('connects whoever comes once, and disconnects whoever goes', async () => {
    const { clock, calls, mesh } = make(async () => {})
    mesh.follow([peer('a'), peer('b')])
    mesh.follow([peer('b'), peer('a')])
    await clock.pass(0)
    mesh.follow([peer('b')])
    await clock.pass(0)
    expect(calls).toEqual(['connect a1', 'connect b1', 'disconnect a1'])
    await mesh.close(1_000)
    expect(calls.slice(3)).toEqual(['disconnect b1'])
  })

  it('tries again after pauses that double up to ten seconds, each peer for itself', async () => {
    const at: number[] = []
    const { clock, calls, mesh } = make(async ({ id }) => {
      if (id !== 'a') return
      at.push(clock.now())
      throw new Error('refused')
    })
    mesh.follow([peer('a'), peer('b')])
    await clock.pass(35_000)
    expect(at).toEqual([0, 200, 600, 1_400, 3_000, 6_200, 12_600, 22_600, 32_600])
    expect(calls.filter((call) => call.includes('b'))).toEqual(['connect b1'])
    await mesh.close(1_000)
    expect(calls.filter((call) => call.includes('disconnect a'))).toEqual([])
  })

  it('does not wait for the pause when asked', async () => {
    let refuse = true
    const { clock, calls, mesh } = make(async () => {
      if (refuse) throw new Error('refused')
    })
    mesh.follow([peer('a')])
    await clock.pass(1)
    refuse = false
    mesh.retryNow(peer('a'))
    mesh.retryNow(peer('unknown'))
    await clock.pass(0)
    expect(calls).toEqual(['connect a1', 'connect a1'])
    await mesh.close(0)
    expect(clock.scheduled).toBe(0)
  })

  it('never connects a new incarnation before the old one is disconnected', async () => {
    const gate = Promise.withResolvers<void>()
    const clock = new ManualClock()
    const calls: string[] = []
    const mesh = new Mesh<Peer>({
      idOf: ({ id }) => id,
      incarnationOf: ({ life }) => life,
      clock,
      random: () => 1,
      connect: async ({ life }) => void calls.push(`connect ${life}`),
      disconnect: async ({ life }) => {
        await gate.promise
        calls.push(`disconnect ${life}`)
      },
    })
    mesh.follow([peer('a', 1n)])
    await clock.pass(0)
    mesh.follow([peer('a', 2n)])
    mesh.follow([])
    mesh.follow([peer('a', 3n)])
    await clock.pass(0)
    expect(calls).toEqual(['connect 1'])
    gate.resolve()
    await clock.pass(0)
    expect(calls).toEqual(['connect 1', 'disconnect 1', 'connect 3'])
    await mesh.close(1_000)
  })

  it('aborts an attempt when the peer goes, and disconnects one that succeeded all the same', async () => {
    const aborted = make(never)
    aborted.mesh.follow([peer('a')])
    await aborted.clock.pass(0)
    aborted.mesh.follow([])
    await aborted.clock.pass(0)
    expect(aborted.calls).toEqual(['connect a1'])

    const gate = Promise.withResolvers<void>()
    const late = make(() => gate.promise)
    late.mesh.follow([peer('a')])
    await late.clock.pass(0)
    late.mesh.follow([])
    gate.resolve()
    await late.clock.pass(0)
    expect(late.calls).toEqual(['connect a1', 'disconnect a1'])
  })

  it('closes although a callback ignores its signal', async () => {
    const { clock, mesh } = make(() => new Promise(() => {}))
    mesh.follow([peer('a')])
    await clock.pass(0)
    let closed = false
    const closing = mesh.close(5_000).then(() => {
      closed = true
    })
    await clock.pass(4_999)
    expect(closed).toBe(false)
    await clock.pass(1)
    await closing
  })
})
