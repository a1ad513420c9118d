import type { ClusterEvent } from '../src/cluster-event.ts'
import type { Node } from '../src/node.ts'

/**
 * What a reader of `watch()` has after these events, kept as simply as a user would keep it. Throws for events that do
 * not follow from each other.
 */
export const fold = (before: readonly Node[], events: readonly ClusterEvent[]): readonly Node[] => {
  const members = new Map(before.map((node) => [node.id, node]))
  for (const event of events) {
    switch (event.type) {
      case 'snapshot':
        members.clear()
        for (const node of event.nodes) members.set(node.id, node)
        break
      case 'join':
        if (members.has(event.node.id)) throw new Error(`join of ${event.node.id}, who was a member`)
        members.set(event.node.id, event.node)
        break
      case 'update':
        if (members.get(event.node.id)?.incarnation !== event.node.incarnation) {
          throw new Error(`update of ${event.node.id}, who was no member`)
        }
        members.set(event.node.id, event.node)
        break
      case 'leave':
      case 'down':
        if (members.get(event.node.id)?.incarnation !== event.node.incarnation) {
          throw new Error(`${event.type} of ${event.node.id}, who was no member`)
        }
        members.delete(event.node.id)
        break
      default:
        break
    }
  }
  return [...members.values()].sort((a, b) => Number(a.incarnation - b.incarnation))
}
