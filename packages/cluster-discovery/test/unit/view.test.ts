import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { ClusterEvent } from '../../src/cluster-event.ts'
import { type DownCause, isMember, type Node, type NodeRecord, type NodeState } from '../../src/node.ts'
import { View } from '../../src/view.ts'
import { fold } from '../fold.ts'

const node = (id: string, incarnation: number, version: number, state: NodeState = 'up'): Node => ({
  id,
  incarnation: BigInt(incarnation),
  name: id,
  address: null,
  metadata: {},
  state,
  joinedAt: new Date(0),
  version: BigInt(version),
})
const record = (of: Node, cause: DownCause | null = null, previous: NodeRecord['previous'] = null): NodeRecord => ({
  node: of,
  cause,
  previous,
})
const described = (events: readonly ClusterEvent[]): string[] =>
  events.map((event) => ('node' in event ? `${event.type} ${event.node.id}/${event.node.incarnation}` : event.type))

describe('a view', () => {
  it('tells joins, updates, leaves and deaths, in version order', () => {
    const view = new View()
    view.apply({ version: 2n, scope: 'full', records: [record(node('b', 2, 2)), record(node('a', 1, 1))] })
    expect(view.members().map((each) => each.id)).toEqual(['a', 'b'])
    const events = view.apply({
      version: 5n,
      scope: 'delta',
      records: [record(node('c', 5, 5)), record(node('b', 2, 4, 'left')), record(node('a', 1, 3, 'down'), 'crash')],
    })
    expect(events).toMatchObject([
      { type: 'down', version: 3n, cause: 'crash', node: { id: 'a', state: 'down' } },
      { type: 'leave', version: 4n, node: { id: 'b', state: 'left' } },
      { type: 'join', version: 5n, node: { id: 'c' } },
    ])
    expect(view.tombstones().map((each) => each.id)).toEqual(['a', 'b'])
  })

  it('delivers a changed incarnation as the end of the old one and a join', () => {
    const view = new View()
    view.apply({ version: 1n, scope: 'full', records: [record(node('a', 1, 1))] })
    const replaced = view.apply({ version: 2n, scope: 'delta', records: [record(node('a', 2, 2))] })
    expect(described(replaced)).toEqual(['down a/1', 'join a/2'])
    expect(replaced[0]).toMatchObject({ cause: 'replaced' })
  })

  it('knows that the old incarnation left in good order when only the new one is seen', () => {
    const view = new View()
    view.apply({ version: 1n, scope: 'full', records: [record(node('a', 1, 1))] })
    const previous = { incarnation: 1n, end: 'left' } as const
    const events = view.apply({ version: 3n, scope: 'delta', records: [record(node('a', 3, 3), null, previous)] })
    expect(described(events)).toEqual(['leave a/1', 'join a/3'])
  })

  it('says nothing of a node that came and went unseen', () => {
    const view = new View()
    view.apply({ version: 1n, scope: 'full', records: [] })
    expect(view.apply({ version: 3n, scope: 'delta', records: [record(node('a', 2, 3, 'left'))] })).toEqual([])
  })

  it('ignores what it knows already', () => {
    const view = new View()
    view.apply({ version: 2n, scope: 'full', records: [record(node('a', 1, 2))] })
    expect(view.apply({ version: 2n, scope: 'delta', records: [record(node('a', 1, 2))] })).toEqual([])
    expect(view.version).toBe(2n)
  })

  it('takes a full reading as the truth even when its version is lower, as after a failover', () => {
    const view = new View()
    view.apply({ version: 9n, scope: 'full', records: [record(node('a', 1, 1)), record(node('b', 9, 9))] })
    const events = view.apply({
      version: 8n,
      scope: 'full',
      records: [record(node('a', 1, 1)), record(node('c', 8, 8))],
    })
    expect(described(events)).toEqual(['join c/8', 'down b/9'])
    expect(view.version).toBe(8n)
  })

  it('lets a member go whose tombstone was pruned while the reader was away', () => {
    const view = new View()
    view.apply({ version: 2n, scope: 'full', records: [record(node('a', 1, 1)), record(node('b', 2, 2))] })
    const events = view.apply({ version: 7n, scope: 'full', records: [record(node('b', 2, 2))] })
    expect(described(events)).toEqual(['down a/1'])
  })
})

type Step =
  | { readonly kind: 'join' | 'update' | 'leave' | 'down' | 'prune'; readonly id: string }
  | { readonly kind: 'read' }
const steps = fc.array(
  fc.oneof(
    fc.record({
      kind: fc.constantFrom('join', 'update', 'leave', 'down', 'prune'),
      id: fc.constantFrom('a', 'b', 'c', 'd'),
    }),
    fc.constant({ kind: 'read' } as const),
  ),
  { maxLength: 60 },
)

/** The tables, in a few lines. */
class Tables {
  version = 0n
  pruned = 0n
  readonly rows = new Map<string, NodeRecord>()

  do(step: Step): void {
    if (step.kind === 'read') return
    const row = this.rows.get(step.id)
    const member = row !== undefined && isMember(row.node.state)
    if (step.kind === 'prune') {
      if (row === undefined || member) return
      this.rows.delete(step.id)
      if (row.node.version > this.pruned) this.pruned = row.node.version
      return
    }
    if (step.kind !== 'join' && !member) return
    this.version += 1n
    const version = Number(this.version)
    const incarnation = Number(row?.node.incarnation ?? 0)
    if (step.kind === 'join') {
      const end = member ? 'replaced' : row?.node.state === 'left' ? 'left' : (row?.cause ?? 'ttl')
      const previous = row === undefined ? null : ({ incarnation: row.node.incarnation, end } as const)
      this.rows.set(step.id, record(node(step.id, version, version), null, previous))
    } else {
      const state = step.kind === 'update' ? 'leaving' : step.kind === 'leave' ? 'left' : 'down'
      this.rows.set(
        step.id,
        record(node(step.id, incarnation, version, state), state === 'down' ? 'ttl' : null, row?.previous),
      )
    }
  }

  read(known: bigint): Parameters<View['apply']>[0] {
    const full = known < this.pruned || known > this.version
    const records = [...this.rows.values()].filter((each) => full || each.node.version > known)
    return { version: this.version, scope: full ? 'full' : 'delta', records }
  }

  members(): unknown {
    return [...this.rows.values()]
      .map((each) => each.node)
      .filter((each) => isMember(each.state))
      .sort((a, b) => Number(a.incarnation - b.incarnation))
  }
}

describe('whatever happens between readings', () => {
  it('the view is the truth, and its events fold to it', () => {
    fc.assert(
      fc.property(steps, (history) => {
        const tables = new Tables()
        const view = new View()
        let folded: readonly Node[] = []
        let last = 0n
        for (const step of [...history, { kind: 'read' } as const]) {
          tables.do(step)
          if (step.kind !== 'read') continue
          const events = view.apply(tables.read(view.version))
          for (const event of events) {
            expect(event.version).toBeGreaterThanOrEqual(last)
            last = event.version
          }
          folded = fold(folded, events)
          expect(view.members()).toEqual(tables.members())
          expect(folded).toEqual(view.members())
          expect(view.version).toBe(tables.version)
        }
      }),
      { numRuns: 500 },
    )
  })
})
