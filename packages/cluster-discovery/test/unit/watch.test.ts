import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { ClusterEvent } from '../../src/cluster-event.ts'
import type { Node } from '../../src/node.ts'
import { View } from '../../src/view.ts'
import { Watch } from '../../src/watch.ts'
import { fold } from '../fold.ts'

const node = (id: string, version: bigint): Node => ({
  id,
  incarnation: version,
  name: id,
  address: null,
  metadata: {},
  state: 'up',
  joinedAt: new Date(0),
  version,
})
const make = (maxQueue = 1_000, signal?: AbortSignal) => {
  const view = new View()
  const ended: Watch[] = []
  const watch = new Watch({
    snapshot: () => (view.version < 0n ? null : view.snapshot()),
    onEnd: (each) => ended.push(each),
    maxQueue,
    signal,
  })
  let version = 0n
  const join = (id: string): void => {
    version += 1n
    const records = [{ node: node(id, version), cause: null, previous: null, lastDeath: 0n }]
    const events = view.apply(
      view.version < 0n ? { version, scope: 'full', records, prunedDeath: 0n } : { version, scope: 'delta', records },
    )
    watch.push(events)
  }
  return { view, watch, join, ended }
}
const typeOf = (result: IteratorResult<ClusterEvent>): string => (result.done === true ? 'done' : result.value.type)

describe('a watch', () => {
  it('waits for the first view, and begins with it', async () => {
    const { watch, join } = make()
    const first = watch.next()
    join('a')
    expect(typeOf(await first)).toBe('snapshot')
    const second = watch.next()
    join('b')
    expect(typeOf(await second)).toBe('join')
  })

  it('answers readers in the order in which they asked', async () => {
    const { watch, join } = make()
    const asked = [watch.next(), watch.next(), watch.next()]
    for (const id of ['a', 'b', 'c']) join(id)
    expect((await Promise.all(asked)).map(typeOf)).toEqual(['snapshot', 'join', 'join'])
  })

  it('ends once for all who wait, and forgets its signal', async () => {
    const controller = new AbortController()
    const { watch, join, ended } = make(10, controller.signal)
    const waiting = [watch.next(), watch.next()]
    controller.abort()
    controller.abort()
    join('a')
    expect((await Promise.all([...waiting, watch.next()])).map(typeOf)).toEqual(['done', 'done', 'done'])
    expect(ended).toEqual([watch])
  })

  it('tells a reader that fell behind that its node was let go, before the snapshot in which it may be back', async () => {
    const { watch, join } = make(3)
    join('self')
    expect(typeOf(await watch.next())).toBe('snapshot')
    watch.push([{ type: 'self-down', version: 1n, cause: 'evicted' }])
    for (const id of ['a', 'b', 'c']) join(id)
    watch.push([{ type: 'self-down', version: 4n, cause: 'replaced' }])
    join('d')
    expect(await watch.next()).toEqual({ done: false, value: { type: 'self-down', version: 4n, cause: 'replaced' } })
    const snapshot = await watch.next()
    expect([typeOf(snapshot), snapshot.value?.version]).toEqual(['snapshot', 5n])
    join('e')
    expect(typeOf(await watch.next())).toBe('join')
  })

  it('tells a reader that fell behind of the gaps, after the snapshot that holds what changed in them', async () => {
    const { watch, join } = make(3)
    join('a')
    expect(typeOf(await watch.next())).toBe('snapshot')
    watch.push([{ type: 'resync', version: 1n, gapMs: 200 }])
    for (const id of ['b', 'c', 'd']) join(id)
    watch.push([{ type: 'resync', version: 4n, gapMs: 50 }])
    expect(typeOf(await watch.next())).toBe('snapshot')
    expect(await watch.next()).toEqual({ done: false, value: { type: 'resync', version: 4n, gapMs: 250 } })
    join('e')
    expect(typeOf(await watch.next())).toBe('join')
  })

  it('tells a reader that has not begun that its node was let go, and first who was there', async () => {
    const { watch, join } = make(3)
    join('self')
    watch.push([{ type: 'resync', version: 1n, gapMs: 200 }])
    watch.push([{ type: 'self-down', version: 1n, cause: 'evicted' }])
    for (let times = 0; times < 100; times += 1) {
      join(`other-${times}`)
      watch.push([{ type: 'self-down', version: BigInt(times), cause: 'evicted' }])
    }
    const read = [await watch.next(), await watch.next(), await watch.next()]
    expect(read.map(typeOf)).toEqual(['snapshot', 'self-down', 'snapshot'])
    expect(read.map(({ value }) => value?.version)).toEqual([1n, 99n, 101n])
    join('late')
    expect(typeOf(await watch.next())).toBe('join')
  })

  it('folds to the view however slowly it is read, with a queue that stays bounded', async () => {
    const step = fc.oneof(fc.constant('read'), fc.constantFrom('a', 'b', 'c', 'd'))
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 60 }), fc.integer({ min: 1, max: 5 }), async (steps, maxQueue) => {
        const { view, watch, join } = make(maxQueue)
        let folded: readonly Node[] = []
        join('first')
        for (const each of steps) {
          if (each !== 'read') join(each)
          else if (folded !== view.members()) {
            const waiting = watch.next()
            // A reader that is up to date would wait; it is ended with the next event.
            const result = await Promise.race([
              waiting,
              new Promise<null>((resolve) => setImmediate(() => resolve(null))),
            ])
            if (result === null) return
            if (result.done !== true) folded = fold(folded, [result.value])
          }
        }
        for (let left = 0; left <= maxQueue; left += 1) {
          const result = await Promise.race([
            watch.next(),
            new Promise<null>((resolve) => setImmediate(() => resolve(null))),
          ])
          if (result === null) break
          if (result.done !== true) folded = fold(folded, [result.value])
        }
        expect(folded).toEqual(view.members())
      }),
    )
  })
})
