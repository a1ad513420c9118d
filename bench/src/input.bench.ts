import { migrate } from '@x/leader-input/migrations'
import { Pool } from 'pg'
import type { Benchmark, Row } from './benchmark.ts'
import { bulkContenders, singleInsertContenders } from './input/capture.ts'
import { barePagedRead, commitToHandler, oursDoingNothing, oursWriting } from './input/consume.ts'

const handTrigger = 'hand-written trigger'

const rows: readonly Row[] = [
  {
    id: 'F1',
    work: 'capture of single-row inserts, 16 clients',
    floor: 'the same inserts into a table without triggers; the cheapest trigger into the same log',
    contenders: singleInsertContenders,
    targets: [
      { of: 'ours', against: handTrigger, figure: 'perSecond', atLeast: 0.85 },
      { of: 'ours', against: 'bare', figure: 'perSecond', atLeast: 0.6 },
    ],
  },
  {
    id: 'F2i',
    work: 'capture of one insert of 200,000 rows',
    floor: 'the same statement with the cheapest statement trigger into the same log',
    contenders: bulkContenders('insert'),
    targets: [{ of: 'ours', against: handTrigger, figure: 'totalMs', atMost: 1.25 }],
  },
  {
    id: 'F2u',
    work: 'capture of one update of 200,000 rows',
    floor: 'the same statement with the cheapest statement trigger into the same log',
    contenders: bulkContenders('update'),
    targets: [{ of: 'ours', against: handTrigger, figure: 'totalMs', atMost: 1.25 }],
  },
  {
    id: 'F3',
    work: 'consumption of 100,000 events, batches of 1,000, a handler that does nothing',
    floor: 'a paged read of the same rows, parsed, on one connection',
    contenders: { floor: barePagedRead, ours: oursDoingNothing },
    targets: [{ of: 'ours', against: 'floor', figure: 'perSecond', atLeast: 0.6 }],
  },
  {
    id: 'F4',
    work: 'consumption with one SQL write per batch, exactly once',
    floor: 'the same without the write',
    contenders: { 'doing nothing': oursDoingNothing, ours: oursWriting },
    targets: [{ of: 'ours', against: 'doing nothing', figure: 'perSecond', atLeast: 0.8 }],
  },
  {
    id: 'F5',
    work: 'commit to handler, 100 events a second',
    floor: 'none: the time itself is bounded',
    rounds: 3,
    contenders: { poll: commitToHandler('poll'), notify: commitToHandler('notify') },
    targets: [
      { of: 'poll', figure: 'p50Us', atMost: 8_000 },
      { of: 'poll', figure: 'p99Us', atMost: 30_000 },
      { of: 'notify', figure: 'p50Us', atMost: 2_000 },
    ],
  },
]

export const benchmark: Benchmark = {
  name: 'input',
  title: 'Change feed',
  async rows({ url }) {
    const pool = new Pool({ connectionString: url, max: 1 })
    await migrate(pool)
    await pool.end()
    return rows
  },
}
