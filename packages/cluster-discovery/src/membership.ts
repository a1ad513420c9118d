import { ConfigurationError, NodeEvictedError } from '@x/lock-core'
import type { Node } from './node.ts'

/** Why a node is not a member any more although it did not leave. */
export type EvictionCause = 'evicted' | 'replaced'

/**
 * Where this process stands in the cluster.
 *
 * `idle` → `joining` → `member` → `leaving` → `left`, and from `member` to `evicted` when the others let it go, from where a
 * leave leads to `left` as well; from `evicted`, `left`, and a `leaving` that failed, a join leads back. `closed` is the end.
 */
export type Membership =
  | { readonly at: 'idle' }
  /** `from`: where it stands again when the join fails. */
  | { readonly at: 'joining'; readonly from: Membership }
  /** `confirmedUntil`: instant on the monotonic clock up to which nobody can have let us go. */
  | { readonly at: 'member'; readonly node: Node; readonly confirmedUntil: number }
  | { readonly at: 'leaving'; readonly node: Node; readonly confirmedUntil: number }
  | { readonly at: 'left'; readonly node: Node }
  | { readonly at: 'evicted'; readonly node: Node; readonly cause: EvictionCause }
  | { readonly at: 'closed'; readonly node: Node | null }

/** What can happen to it. */
export type MembershipStep =
  | { readonly step: 'join' }
  | { readonly step: 'join-failed' }
  | { readonly step: 'joined'; readonly node: Node; readonly confirmedUntil: number }
  /** A beat was answered: alive. */
  | { readonly step: 'confirmed'; readonly incarnation: bigint; readonly confirmedUntil: number }
  | { readonly step: 'changed'; readonly node: Node }
  | { readonly step: 'let-go'; readonly incarnation: bigint; readonly cause: EvictionCause }
  | { readonly step: 'leave' }
  | { readonly step: 'left' }
  | { readonly step: 'close' }

/**
 * The one function that moves between the states. A step that does not fit the state (the answer to a beat of an earlier
 * incarnation, for instance) leaves it as it is: the same object comes back.
 */
export function nextMembership(current: Membership, event: MembershipStep): Membership {
  if (current.at === 'closed') return current
  switch (event.step) {
    case 'join':
      // From `leaving` too: a leave that failed must not be in the way of the next life.
      return current.at === 'idle' || current.at === 'leaving' || current.at === 'left' || current.at === 'evicted'
        ? { at: 'joining', from: current }
        : current
    case 'join-failed':
      return current.at === 'joining' ? current.from : current
    case 'joined':
      return current.at === 'joining'
        ? { at: 'member', node: event.node, confirmedUntil: event.confirmedUntil }
        : current
    case 'confirmed':
      // Answers may overtake each other: the later deadline counts.
      return isIn(current, event.incarnation) && event.confirmedUntil > current.confirmedUntil
        ? { ...current, confirmedUntil: event.confirmedUntil }
        : current
    case 'changed':
      return isIn(current, event.node.incarnation) && event.node.version > current.node.version
        ? { ...current, node: event.node }
        : current
    case 'let-go':
      return isIn(current, event.incarnation)
        ? { at: 'evicted', node: { ...current.node, state: 'down' }, cause: event.cause }
        : current
    case 'leave':
      return current.at === 'member' ? { ...current, at: 'leaving' } : current
    case 'left':
      if (current.at === 'leaving') return { at: 'left', node: { ...current.node, state: 'left' } }
      // To the others it is down, and that is what it says of itself.
      return current.at === 'evicted' ? { at: 'left', node: current.node } : current
    case 'close':
      // Whoever closes without having left is down as far as the others will tell.
      if (isIn(current)) return { at: 'closed', node: { ...current.node, state: 'down' } }
      if (current.at === 'joining') return nextMembership(current.from, event)
      return { at: 'closed', node: 'node' in current ? current.node : null }
  }
}

/**
 * This node as it may call itself at the instant `now`: after the deadline it is `down` in its own eyes, because the
 * others may have let it go, until a beat is answered again.
 * @param self what it is before its first join
 */
export function selfAt(current: Membership, now: number, self: Node): Node {
  switch (current.at) {
    case 'idle':
      return self
    case 'joining':
      return selfAt(current.from, now, self)
    case 'member':
    case 'leaving':
      return now < current.confirmedUntil ? current.node : { ...current.node, state: 'down' }
    case 'left':
    case 'evicted':
      return current.node
    case 'closed':
      return current.node ?? self
  }
}

/**
 * The member that asks for something.
 * @param what it asks for, for the message
 * @throws {NodeEvictedError}, {ConfigurationError} when it is none
 */
export function memberWhoAsks(current: Membership, cluster: string, what: string): Node {
  if (current.at === 'member') return current.node
  if (current.at === 'evicted') {
    throw new NodeEvictedError(
      `${what}: node ${JSON.stringify(current.node.id)} of cluster ${JSON.stringify(cluster)} was ${
        current.cause === 'replaced'
          ? 'replaced by another process with its id; give each process its own'
          : 'let go by the others; wait until it has rejoined'
      }, or join() again`,
    )
  }
  throw new ConfigurationError(`${what}: expected a member; got a node that has not joined; call join() first`)
}

function isIn(current: Membership, incarnation?: bigint): current is Extract<Membership, { at: 'member' | 'leaving' }> {
  return (
    (current.at === 'member' || current.at === 'leaving') &&
    (incarnation === undefined || current.node.incarnation === incarnation)
  )
}
