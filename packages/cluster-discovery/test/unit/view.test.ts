import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { ClusterEvent } from '../../src/cluster-event.ts'
import { type DownCause, isMember, type Node, type NodeRecord, type NodeState } from '../../src/node.ts'
import { type Reading, View } from '../../src/view.ts'
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
const record = (
  of: Node,
  cause: DownCause | null = null,
  previous: NodeRecord['previous'] = null,
  lastDeath = 0n,
): NodeRecord => ({ node: of, cause, previous, lastDeath })
const full = (version: number, records: readonly NodeRecord[], prunedDeath = 0n): Reading => ({
  version: BigInt(version),
  scope: 'full',
  records,
  prunedDeath,
})
const delta = (version: number, records: readonly NodeRecord[]): Reading => ({
  version: BigInt(version),
  scope: 'delta',
  records,
})
const described = (events: readonly ClusterEvent[]): string[] =>
  events.map((event) => ('node' in event ? `${event.type} ${event.node.id}/${event.node.incarnation}` : event.type))

describe('a view', () => {
  it('tells joins, updates, leaves and deaths, in version order', () => {
    const view = new View()
    view.apply(full(2, [record(node('b', 2, 2)), record(node('a', 1, 1))]))
    expect(view.members().map((each) => each.id)).toEqual(['a', 'b'])
    const events = view.apply(
      delta(5, [record(node('c', 5, 5)), record(node('b', 2, 4, 'left')), record(node('a', 1, 3, 'down'), 'crash')]),
    )
    expect(events).toMatchObject([
      { type: 'down', version: 3n, cause: 'crash', node: { id: 'a', state: 'down' } },
      { type: 'leave', version: 4n, node: { id: 'b', state: 'left' } },
      { type: 'join', version: 5n, node: { id: 'c' } },
    ])
    expect(view.tombstones().map((each) => each.id)).toEqual(['a', 'b'])
  })

  it('delivers a changed incarnation as the end of the old one and a join', () => {
    const view = new View()
    view.apply(full(1, [record(node('a', 1, 1))]))
    const previous = { incarnation: 1n, end: 'replaced' } as const
    const replaced = view.apply(delta(2, [record(node('a', 2, 2), null, previous, 2n)]))
    expect(described(replaced)).toEqual(['down a/1', 'join a/2'])
    expect(replaced[0]).toMatchObject({ cause: 'replaced' })
  })

  it('knows that the old incarnation left in good order when only the new one is seen', () => {
    const view = new View()
    view.apply(full(1, [record(node('a', 1, 1))]))
    const previous = { incarnation: 1n, end: 'left' } as const
    const events = view.apply(delta(3, [record(node('a', 3, 3), null, previous)]))
    expect(described(events)).toEqual(['leave a/1', 'join a/3'])
  })

  it('says nothing of a node that came and went unseen', () => {
    const view = new View()
    view.apply(full(1, []))
    expect(view.apply(delta(3, [record(node('a', 2, 3, 'left'))]))).toEqual([])
  })

  it('ignores what it knows already', () => {
    const view = new View()
    view.apply(full(2, [record(node('a', 1, 2))]))
    expect(view.apply(delta(2, [record(node('a', 1, 2))]))).toEqual([])
    expect(view.version).toBe(2n)
  })

  it('takes a full reading as the truth even when its version is lower, as after a failover', () => {
    const view = new View()
    view.apply(full(9, [record(node('a', 1, 1)), record(node('b', 9, 9))]))
    const events = view.apply(full(8, [record(node('a', 1, 1)), record(node('c', 8, 8))]))
    expect(described(events)).toEqual(['join c/8', 'down b/9'])
    expect(view.version).toBe(8n)
  })

  it.each([
    ['left, when no death is forgotten that came after', 2n, 'leave a/1'],
    ['died, when it may have', 3n, 'down a/1'],
  ])('says of a member whose tombstone was pruned while the reader was away that it %s', (_, prunedDeath, said) => {
    const view = new View()
    view.apply(full(2, [record(node('a', 1, 1)), record(node('b', 2, 2))]))
    expect(described(view.apply(full(7, [record(node('b', 2, 2))], prunedDeath)))).toEqual([said])
  })

  it.each([
    ['left, when none of its lives has died since', 1n, 'leave a/1'],
    ['died, when one of them has', 4n, 'down a/1'],
  ])('says of a life that was followed by several that it %s', (_, lastDeath, said) => {
    const view = new View()
    view.apply(full(1, [record(node('a', 1, 1))]))
    const previous = { incarnation: 5n, end: 'left' } as const
    expect(described(view.apply(delta(7, [record(node('a', 7, 7), null, previous, lastDeath)])))).toEqual([
      said,
      'join a/7',
    ])
  })

  it.each([
    ['that its version shows', 8, true],
    ['that only its reader knows of', 12, false],
  ])(
    'believes in no leave that it has not seen after a failover that lost versions, %s',
    (_, version, isOneHistory) => {
      const view = new View()
      view.apply(full(9, [record(node('a', 1, 1)), record(node('b', 9, 9))]))
      const events = view.apply(full(version, [record(node('b', 8, 8))]), isOneHistory)
      expect(described(events)).toEqual(['down b/9', 'join b/8', 'down a/1'])
    },
  )
})

type Step =
  | { readonly kind: 'join' | 'update' | 'leave' | 'down' | 'prune'; readonly id: string }
  | { readonly kind: 'read' }
const steps = fc.array(
  fc.oneof(
    {
      // So much happens between two readings that most lives and tombstones are missed.
      weight: 6,
      arbitrary: fc.record({
        kind: fc.constantFrom('join', 'update', 'leave', 'down', 'prune'),
        id: fc.constantFrom('a', 'b', 'c', 'd'),
      }),
    },
    { weight: 1, arbitrary: fc.constant({ kind: 'read' } as const) },
  ),
  { maxLength: 60, size: 'max' },
)

/** The tables, in a few lines, and how each life of each node ended. */
class Tables {
  version = 0n
  pruned = 0n
  prunedDeath = 0n
  /** The newest death of each id. */
  readonly deaths = new Map<string, bigint>()
  readonly rows = new Map<string, NodeRecord>()
  readonly ends = new Map<bigint, 'left' | 'died'>()

  do(step: Step): void {
    if (step.kind === 'read') return
    const row = this.rows.get(step.id)
    const member = row !== undefined && isMember(row.node.state)
    if (step.kind === 'prune') {
      if (row === undefined || member) return
      this.rows.delete(step.id)
      if (row.node.version > this.pruned) this.pruned = row.node.version
      const death = row.node.state === 'down' ? row.node.version : row.lastDeath
      if (death > this.prunedDeath) this.prunedDeath = death
      return
    }
    if (step.kind !== 'join' && !member) return
    this.version += 1n
    const version = Number(this.version)
    const incarnation = Number(row?.node.incarnation ?? 0)
    if (step.kind === 'join') {
      const end = member ? 'replaced' : row?.node.state === 'left' ? 'left' : (row?.cause ?? 'ttl')
      const previous = row === undefined ? null : ({ incarnation: row.node.incarnation, end } as const)
      if (member) this.#ended(row.node, 'died')
      const lastDeath = row === undefined ? this.prunedDeath : end === 'left' ? row.lastDeath : this.#deathOf(row)
      this.rows.set(step.id, record(node(step.id, version, version), null, previous, lastDeath))
    } else {
      const state = step.kind === 'update' ? 'leaving' : step.kind === 'leave' ? 'left' : 'down'
      if (row !== undefined && state !== 'leaving') this.#ended(row.node, state === 'left' ? 'left' : 'died')
      const cause = state === 'down' ? 'ttl' : null
      this.rows.set(step.id, record(node(step.id, incarnation, version, state), cause, row?.previous, row?.lastDeath))
    }
  }

  read(known: bigint): Reading {
    const { version, prunedDeath } = this
    const all = known < this.pruned || known > version
    const records = [...this.rows.values()].filter((each) => all || each.node.version > known)
    return all ? { version, scope: 'full', records, prunedDeath } : { version, scope: 'delta', records }
  }

  members(): unknown {
    return [...this.rows.values()]
      .map((each) => each.node)
      .filter((each) => isMember(each.state))
      .sort((a, b) => Number(a.incarnation - b.incarnation))
  }

  #ended({ id, incarnation }: Node, end: 'left' | 'died'): void {
    this.ends.set(incarnation, end)
    if (end === 'died') this.deaths.set(id, this.version)
  }

  #deathOf({ node: { state, version } }: NodeRecord): bigint {
    return state === 'down' ? version : this.version
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
          const known = view.version
          const drained = new Set(folded.filter(({ state }) => state === 'leaving').map(({ id }) => id))
          const events = view.apply(tables.read(known))
          for (const event of events) {
            expect(event.version).toBeGreaterThanOrEqual(last)
            last = event.version
            // A leave is one, but for who was seen to drain; and there is no talk of death where none can have been missed.
            if (event.type === 'leave' && !drained.has(event.node.id)) {
              expect(tables.ends.get(event.node.incarnation)).toBe('left')
            }
            if (event.type === 'down') {
              const ofIt = tables.deaths.get(event.node.id) ?? 0n
              expect(ofIt > known || tables.prunedDeath > known).toBe(true)
            }
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
