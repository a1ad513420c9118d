import { FeedEvent } from '../event.ts'
import { type Delivery, deliver } from '../handling/deliver.ts'
import { deliverByHand } from '../handling/iterator.ts'
import type { BackfillPosition } from '../log/cursor.ts'
import type { Probe } from '../log/reader.ts'
import { formatSnapshot } from '../log/window.ts'
import type { Term } from '../term.ts'
import { readableTable, readChunk } from './chunk.ts'

/**
 * One step of a backfill: a chunk is read, the window up to the chunk's snapshot is delivered, then the chunk, in
 * transactions that store how far it has come. After a crash in between the chunk is read again, in a newer snapshot. Changes
 * of rows that are not read yet may come before their `read`, which is an upsert.
 *
 * The idea of ordering chunks by snapshots instead of watermarks written to the log is that of DBLog (Andreakis and
 * Papapanagiotou, 2019) without its watermark table.
 */
export async function backfillStep<DB>(
  term: Term<DB>,
  position: BackfillPosition,
  numberBefore: bigint,
  deliverWindow: (seen: Probe, numberBefore: bigint) => Promise<void>,
): Promise<void> {
  const [location, ...rest] = position.tables
  const table = location === undefined ? undefined : term.table(location)
  if (location === undefined || table === undefined) {
    term.advance({
      ...term.cursor,
      backfill: rest.length > 0 ? { tables: rest, after: null, chunks: position.chunks } : null,
    })
    await term.store()
    return
  }
  const { options } = term
  const connection = await term.connection()
  const readable = await readableTable(connection, location, table.keyColumns)
  const limits = {
    schema: options.schema,
    rows: options.backfillChunk ?? options.batchSize,
    bytes: options.maxBatchBytes,
  }
  const chunk = await readChunk(connection, readable, position.after, limits)
  await deliverWindow(chunk.seen, numberBefore)
  if (term.isOver || term.cursor.pinned !== null) return

  const followed = term.followed(location)
  const chunks = position.chunks + 1
  const keyOf = new Map<FeedEvent, readonly string[]>()
  const events =
    followed === undefined
      ? []
      : chunk.rows.map((row, i) => {
          const place = chunk.keys[i] ?? []
          const event = new FeedEvent(
            options.name,
            row,
            followed,
            'backfill',
            `read:${formatSnapshot(chunk.seen.snapshot).split(':').slice(0, 2).join('-')}:${chunks}:${i}`,
          )
          keyOf.set(event, place)
          return event
        })
  const after = chunk.keys.at(-1) ?? null
  const done: BackfillPosition | null = chunk.last
    ? rest.length > 0
      ? { tables: rest, after: null, chunks }
      : null
    : { tables: position.tables, after, chunks }
  const base = term.cursor
  const delivery: Delivery = {
    events,
    end: { ...base, backfill: done },
    // Without a key there is no place within the chunk to go on from: all of it is read again.
    cursorAfter: (event) => ({
      ...base,
      backfill:
        readable.key.length === 0 ? position : { tables: position.tables, after: keyOf.get(event) ?? null, chunks },
    }),
  }
  if (events.length === 0) {
    term.advance(delivery.end)
    await term.store()
    return
  }
  const { handOver } = term.parts
  if (handOver === null) await deliver(term, delivery, options.batchSize)
  else await deliverByHand(term, delivery, handOver)
}
