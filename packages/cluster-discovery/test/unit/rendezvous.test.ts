import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { rendezvous } from '../../src/rendezvous.ts'

const nodesOf = (ids: readonly string[]) => ids.map((id) => ({ id }))
const ids = fc.uniqueArray(fc.string(), { minLength: 1, maxLength: 12 })

describe('rendezvous', () => {
  it('has no owner without nodes', () => {
    expect(rendezvous('key', [])).toBeUndefined()
  })

  it('is the same answer everywhere: pinned, because other services may compute it too', () => {
    expect(rendezvous('customer-42', nodesOf(['a', 'b', 'c', 'd', 'e']))?.id).toBe('b')
  })

  it('does not depend on the order of the nodes', () => {
    fc.assert(
      fc.property(fc.string(), ids, (key, names) => {
        const nodes = nodesOf(names)
        expect(rendezvous(key, [...nodes].reverse())?.id).toBe(rendezvous(key, nodes)?.id)
      }),
    )
  })

  it('moves only the keys of a node that goes, and a node that comes takes keys for itself alone', () => {
    fc.assert(
      fc.property(fc.array(fc.string(), { minLength: 1, maxLength: 30 }), ids, fc.nat(), (keys, names, which) => {
        const nodes = nodesOf(names)
        const gone = nodes[which % nodes.length]
        const rest = nodes.filter((node) => node !== gone)
        for (const key of keys) {
          const owner = rendezvous(key, nodes)
          if (owner !== gone) expect(rendezvous(key, rest)?.id).toBe(owner?.id)
        }
      }),
    )
  })

  it('spreads 40,000 keys over 8 nodes within 5 % of the mean', () => {
    const nodes = nodesOf(Array.from({ length: 8 }, (_, index) => `node-${index}`))
    const counts = new Map<string, number>()
    for (let key = 0; key < 40_000; key += 1) {
      const id = rendezvous(`key-${key}`, nodes)?.id ?? ''
      counts.set(id, (counts.get(id) ?? 0) + 1)
    }
    expect(counts.size).toBe(8)
    for (const count of counts.values()) expect(Math.abs(count - 5_000)).toBeLessThan(250)
  })
})
