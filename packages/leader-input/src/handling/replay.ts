import type { Operation } from '../change-event.ts'
import type { LoggedChange } from '../event.ts'
import type { Term } from '../term.ts'
import { commitBatch, HandlerFailure } from './batch.ts'
import { BlockedKeys } from './blocked-keys.ts'

const pageSize = 200

/** A parked event with its row in `parked_changes`. */
interface Parked {
  readonly rowId: string
  readonly replay: boolean
  readonly change: LoggedChange
  readonly keySuffix: string
  /** It did not fail itself: an event before it on one of its keys did. */
  readonly onlyWaits: boolean
}

/**
 * Hands over the parked events that somebody asked for, in order, under this leader's epoch, each in a transaction of its
 * own. One that fails again stays, and so does everything behind it on the same keys. What only waited behind one that
 * succeeds goes with it, also what was parked after it was asked for: a key that changes all the time would never be free.
 */
export async function replayParked<DB>(term: Term<DB>): Promise<void> {
  const { options, parking } = term
  const heldBack = new BlockedKeys()
  const freed = new BlockedKeys()
  let after = '0'
  while (!term.isOver) {
    const connection = await term.connection()
    const rows = await connection.rows(parking.parkedAfter, [options.name, after, pageSize])
    for (const { rowId, replay, change, keySuffix, onlyWaits } of rows.map(parkedRow)) {
      after = rowId
      if (term.isOver) return
      const event = term.eventOf(change, keySuffix)
      const isWanted = replay || (onlyWaits && freed.blocks(change))
      if (isWanted && event !== null && !heldBack.blocks(change)) {
        try {
          const own = await commitBatch(await term.batchContext(), {
            events: [event],
            parked: [],
            attempt: 1,
            to: null,
            unpark: [rowId],
          })
          freed.block(change)
          if (own !== null) term.advance({ ...term.cursor, ownXids: [...term.cursor.ownXids, own] })
          continue
        } catch (error) {
          if (!(error instanceof HandlerFailure)) throw error
          // The handler was told to stop: the next leader tries.
          if (term.isOver) return
          const reason = error.cause instanceof Error ? error.cause.message : String(error.cause)
          await (await term.connection()).rows(parking.keepParked, [[rowId], reason])
        }
      } else if (replay) await (await term.connection()).rows(parking.keepParked, [[rowId], null])
      heldBack.block(change)
    }
    if (rows.length < pageSize) break
  }
  await term.readBlocked()
}

function parkedRow(row: readonly unknown[]): Parked {
  const [seq, xid, location, operation, key, oldKey, before, after, atMicros, rowId, replay, keySuffix, onlyWaits] =
    row as readonly (string | null)[]
  return {
    change: {
      seq: BigInt(seq ?? 0),
      xid: BigInt(xid ?? 0),
      location: location ?? '',
      operation: operation as Operation,
      key: key ?? null,
      oldKey: oldKey ?? null,
      before: before ?? null,
      after: after ?? null,
      atMicros: atMicros ?? '0',
    },
    rowId: rowId ?? '',
    replay: replay === 'true',
    keySuffix: keySuffix ?? '',
    onlyWaits: onlyWaits === 'true',
  }
}
