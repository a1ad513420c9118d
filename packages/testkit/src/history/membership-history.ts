/** One process of the cluster as one node sees it. */
export interface SeenNode {
  readonly id: string
  readonly incarnation: string
  readonly state: string
}

/** An event of `watch()`, as far as membership goes. */
export type SeenEvent =
  | { readonly type: 'snapshot'; readonly version: string; readonly nodes: readonly SeenNode[] }
  | { readonly type: 'join' | 'update' | 'leave' | 'down'; readonly version: string; readonly node: SeenNode }

const members = new Set(['joining', 'up', 'leaving'])

/** What the events of one watcher add up to: the members by id. */
export const foldEvents = (events: readonly SeenEvent[]): ReadonlyMap<string, SeenNode> => {
  const view = new Map<string, SeenNode>()
  for (const event of events) {
    if (event.type === 'snapshot') {
      view.clear()
      for (const node of event.nodes) if (members.has(node.state)) view.set(node.id, node)
    } else if (event.type === 'join' || event.type === 'update') view.set(event.node.id, event.node)
    else if (view.get(event.node.id)?.incarnation === event.node.incarnation) view.delete(event.node.id)
  }
  return view
}

/** Versions of one watcher must not go back, and a plain event must not repeat one that a snapshot already held. */
export const eventOrderViolations = (events: readonly SeenEvent[]): readonly string[] => {
  let last = -1n
  let lastWasSnapshot = false
  return events.flatMap((event) => {
    const version = BigInt(event.version)
    const goesBack = version < last || (lastWasSnapshot && event.type !== 'snapshot' && version === last)
    const message = `${event.type} of version ${version} came after version ${last}`
    last = version
    lastWasSnapshot = event.type === 'snapshot'
    return goesBack ? [message] : []
  })
}

/** A stretch in which a process could not beat: it was stopped, cut off, or dead. */
export interface Disturbance {
  readonly from: number
  /** Null: it never came back. */
  readonly until: number | null
}

/** A node declared down, in microseconds of the machine's clock when somebody first heard of it. */
export interface Declaration {
  readonly node: string
  readonly at: number
}

/**
 * Declarations for which there was no reason: nothing kept the node from beating for most of a ttl shortly before.
 *
 * @param slackMicros how much later than its reason a declaration may be heard of
 */
export const unjustifiedDowns = (
  declarations: readonly Declaration[],
  disturbances: ReadonlyMap<string, readonly Disturbance[]>,
  bounds: { readonly ttlMicros: number; readonly slackMicros: number },
): readonly string[] =>
  declarations.flatMap(({ node, at }) => {
    const reasons = disturbances.get(node) ?? []
    const justified = reasons.some(({ from, until }) => {
      const end = until ?? Number.POSITIVE_INFINITY
      const lasted = Math.min(end, at) - from
      // A dead process may be found sooner than by its ttl.
      return from <= at && end >= at - bounds.slackMicros && (until === null || lasted >= bounds.ttlMicros * 0.6)
    })
    return justified ? [] : [`${node} was declared down at ${at} although it could beat`]
  })
