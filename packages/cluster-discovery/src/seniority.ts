import type { Node } from './node.ts'
import type { SweeperSeen } from './record.ts'
import type { Incarnation } from './tables.ts'

/** So many watch the sweeper. */
const standbys = 2
/** So many members ask within a heartbeat who sweeps; the more there are, the more rarely each of them. */
const askers = 8

/** Whether this one is among the two members that have been there longest, but for the sweeper. */
export function standsBy(self: Incarnation, sweeper: SweeperSeen, members: readonly Node[]): boolean {
  let rank = 0
  for (const { id, incarnation } of members) {
    if (id === sweeper.id) continue
    if (id === self.id) return incarnation === self.incarnation
    rank += 1
    if (rank === standbys) return false
  }
  return false
}

/**
 * Whether the next beat of a member is to ask who sweeps. Whoever may stand by always does; of the others enough for a sweeper
 * that is gone together with its standbys to be missed within a heartbeat.
 */
export function asksWhoSweeps(id: string, members: readonly Node[], random: () => number): boolean {
  const mayStandBy = members.slice(0, standbys + 1).some((each) => each.id === id)
  return mayStandBy || random() * members.length < askers
}
