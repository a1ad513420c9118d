import type { Pool } from 'pg'
import { z } from 'zod'

/** A leader, and how it came to lead. */
export interface Term {
  readonly epoch: bigint
  readonly node: string
  /** From the kill or the stop of the leader before to the first batch of this one, by the database's clock. */
  readonly takeoverMs: number | null
}

const newTermsSql = `
  SELECT term.epoch::text AS epoch, term.node,
         (1000 * extract(epoch FROM term.first_batch_at - fault.at))::float8 AS takeover
  FROM (SELECT *, lag(first_batch_at, 1, '-infinity') OVER (ORDER BY epoch) AS before FROM terms) AS term
  LEFT JOIN LATERAL (
    SELECT at FROM faults
    WHERE kind IN ('kill', 'stop') AND at > term.before AND at < term.first_batch_at
    ORDER BY at DESC LIMIT 1) AS fault ON true
  WHERE term.epoch > $1
  ORDER BY term.epoch`
const newEffectsSql =
  'SELECT count(*) AS handled, coalesce(max(position), $1) AS position FROM effects WHERE position > $1'

const termRows = z.array(
  z.object({ epoch: z.string().transform(BigInt), node: z.string(), takeover: z.number().nullable() }),
)
const effectRow = z.object({ handled: z.coerce.number(), position: z.string() })

/** What the tables say about the run while it lasts. Only new rows are read, so that watching costs little. */
export interface Progress {
  /** Reads what is new; resolves to the terms that began since the last time. */
  look(): Promise<readonly Term[]>
  /** As of the last look. */
  figures(): { readonly handled: number; readonly handledPerSecond: number }
}

const rateWindowMs = 2_000

export const createProgress = (pool: Pool): Progress => {
  let lastEpoch = -1n
  let handled = 0
  let position = '0'
  const samples: { at: number; handled: number }[] = []
  return {
    figures() {
      const [first, last] = [samples[0], samples.at(-1)]
      const overMs = first && last ? last.at - first.at : 0
      return {
        handled,
        handledPerSecond: first && last && overMs > 0 ? (1_000 * (last.handled - first.handled)) / overMs : 0,
      }
    },
    async look() {
      const found = await pool.query(newTermsSql, [lastEpoch])
      const begun = termRows
        .parse(found.rows)
        .map(({ epoch, node, takeover }) => ({ epoch, node, takeoverMs: takeover }))
      lastEpoch = begun.at(-1)?.epoch ?? lastEpoch
      const effects = effectRow.parse((await pool.query(newEffectsSql, [position])).rows[0])
      handled += effects.handled
      position = effects.position
      const at = performance.now()
      samples.push({ at, handled })
      while ((samples[0]?.at ?? at) < at - rateWindowMs) samples.shift()
      return begun
    },
  }
}
