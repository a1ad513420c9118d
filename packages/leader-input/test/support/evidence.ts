import { type ChangeHandler, createLeaderInput, type LeaderInput, type LeaderInputOptions } from '../../src/index.ts'
import { described } from './workload.ts'

export interface Items {
  items: { id: number; rev: number; pad: string | null }
}

/** The input of the fault tests over the table of `workload.ts`. */
export const itemsInput = (
  options: Pick<
    LeaderInputOptions<Items>,
    'pool' | 'locker' | 'takeoverMs' | 'batchSize' | 'backfill' | 'handlerTimeoutMs'
  >,
): LeaderInput<Items> => createLeaderInput<Items>({ name: 'stress', tables: ['items'], batchSize: 50, ...options })

/** Writes down each event, for both items when the key changed. */
export const keepEvidence: ChangeHandler<Items> = async (events, { client, epoch }) => {
  const rows = events.flatMap(({ idempotencyKey, key, oldKey, operation, before, after }) => {
    const what = described(operation, before?.rev ?? null, after?.rev ?? null)
    return [oldKey, key].flatMap((one) =>
      one === null ? [] : [{ key: `${idempotencyKey}/${one.id}`, item: Number(one.id), what }],
    )
  })
  await client.query(
    'INSERT INTO effects (key, item, what, epoch) SELECT e.key, e.item, e.what, $2 FROM unnest($1::jsonb[]) WITH ORDINALITY AS j (v, i), jsonb_to_record(j.v) AS e (key text, item int, what text) ORDER BY j.i',
    [rows.map((row) => JSON.stringify(row)), epoch.toString()],
  )
}
