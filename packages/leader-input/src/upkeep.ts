import { FencedError } from '@x/lock-core'
import { type Drift, findDrift, findDriftWhileRunning } from './capture/drift.ts'
import { alignTriggers, underLock } from './capture/install.ts'
import { type Connection, scanTimeoutMs } from './connection.ts'
import { inTransaction } from './connections.ts'
import { replayParked } from './handling/replay.ts'
import type { Cursor } from './log/cursor.ts'
import { numberBound } from './log/number-bound.ts'
import { pruner } from './log/prune.ts'
import type { Term } from './term.ts'

/** What a leader does once a second besides handling, a little at a time. */
export interface Upkeep {
  /** Before the first batch. */
  begin(): Promise<void>
  /** Does the next of it, if it is due. */
  whenDue(): Promise<void>
}

const periodMs = 1_000
/** An idle cursor is stored this often, so that the log can be pruned. */
const storeMs = 10_000
const retentionMs = 5_000

export function upkeep<DB>(term: Term<DB>): Upkeep {
  const { parts, options } = term
  let dueAt = performance.now() + periodMs / 4
  let stored: Cursor = term.cursor
  let storedAt = performance.now()
  let retentionDueAt = performance.now() + periodMs
  const pruning = pruner(parts.upkeep, parts.log)

  const takeIn = async (drift: Drift): Promise<void> => {
    if (drift.tables.length > 0) await term.follow(drift.tables)
    if (drift.lines.join() !== parts.health.drift.join() && drift.lines.length > 0) {
      options.logger?.error({ input: options.name, drift: drift.lines }, 'capture is not as it should be')
    }
    parts.health.drift = drift.lines
    if (drift.leftOut.length > 0) {
      throw new FencedError(
        `input ${options.name}: ${drift.leftOut.join('; ')} is installed for it and left out by the options of this replica, which steps aside for one with the newer options; deploy them here, too, or call install() to go back to these`,
      )
    }
    if (drift.installed !== null) term.installed = drift.installed
    for (const table of drift.newPartitions) {
      // On the term's own connection: the pool may have no other, and nothing is handled meanwhile.
      const own: Parameters<typeof underLock>[0] = {
        transaction: async (fn) => inTransaction(await term.connection(), fn),
      }
      const notes = await underLock(own, parts.capture, options.schema, (connection) =>
        alignTriggers(connection, parts.capture, table, options.schema),
      )
      options.logger?.warn(
        { input: options.name, created: notes.created },
        'added capture to new partitions; what was written to them directly before is not in the log',
      )
    }
  }
  /** Gives up, loudly, on inputs that hold more of the log than they may; they may have no leader of their own. */
  const keepRetention = async (connection: Connection): Promise<void> => {
    for (const [capped] of await connection.rows(parts.upkeep.capped)) {
      const [overdue] = await connection.rows(parts.upkeep.overdue, [capped], scanTimeoutMs)
      if (overdue === undefined) continue
      const lo = await numberBound(connection, parts.log)
      const [gap] = await connection.rows(parts.upkeep.giveUp, [capped, lo])
      if (gap !== undefined)
        options.logger?.error(
          { input: capped, fromSeq: gap[0], toSeq: gap[1] },
          'dropped changes over the retention cap',
        )
    }
  }
  const look = async (): Promise<void> =>
    takeIn(await findDriftWhileRunning(await term.connection(), parts.capture, options))
  const replay = async (): Promise<void> => {
    const [wanted] = await (await term.connection()).rows(term.parking.replayWanted, [options.name])
    if (wanted?.[0] === 'true' && parts.handOver === null) return replayParked(term)
    // Whoever takes events one by one has no handler that could be given any of these.
    if (wanted?.[0] === 'true') await (await term.connection()).rows(term.parking.refuseReplay, [options.name])
    await term.readBlocked()
  }
  const tidy = async (): Promise<void> => {
    const connection = await term.connection()
    await pruning.prune(connection)
    if (performance.now() > retentionDueAt) {
      await keepRetention(connection)
      retentionDueAt = performance.now() + retentionMs
    }
    if (term.cursor !== stored && performance.now() - storedAt > storeMs) {
      await term.store()
      stored = term.cursor
      storedAt = performance.now()
    }
  }
  // One after the other over the second: all at once they would hold up an event for as long as they take together.
  const duties = [() => term.assertUnmoved(), look, replay, tidy]
  let done = 0
  return {
    async begin() {
      await takeIn(await findDrift(await term.connection(), parts.capture, options))
      await term.readBlocked()
    },
    async whenDue() {
      if (performance.now() < dueAt) return
      await term.keepLease()
      await duties[done % duties.length]?.()
      done += 1
      dueAt = performance.now() + periodMs / duties.length
    },
  }
}
