import { migrate } from '@x/leader-input/migrations'
import { Pool } from 'pg'
import type { Benchmark, Row } from './benchmark.ts'
import { bulkContenders, singleWriteContenders } from './input/capture.ts'
import { barePagedRead, events, oursDoingNothing, oursWriting, oursWritingAll } from './input/consume.ts'
import { commitToHandler } from './input/latency.ts'
import { consumptionBeside, longWriter } from './input/long-writer.ts'
import { loggedRows, prunedLog } from './input/pruned-log.ts'
import { killedLeader, takeoverMs } from './input/takeover.ts'
import { graphileWorkerConsuming, pgBossConsuming } from './peers/queues.ts'

const handTrigger = 'hand-written trigger'

const rowsOn = (url: string): readonly Row[] => [
  {
    id: 'F1',
    work: 'capture of single-row inserts, 16 clients',
    floor: 'the same inserts into a table without triggers; the cheapest trigger into the same log',
    contenders: singleWriteContenders('insert'),
    targets: [
      { of: 'ours', against: handTrigger, figure: 'perSecond', atLeast: 0.85 },
      { of: 'ours', against: 'bare', figure: 'perSecond', atLeast: 0.6 },
    ],
  },
  {
    id: 'F1u',
    work: 'capture of single-row updates, 16 clients',
    floor: 'the same updates of a table without triggers; the cheapest trigger into the same log',
    contenders: singleWriteContenders('update'),
    targets: [
      { of: 'ours', against: handTrigger, figure: 'perSecond' },
      { of: 'ours', against: 'bare', figure: 'perSecond' },
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
    id: 'F3p',
    work: `consumption of ${events.toLocaleString('en')} events beside job queues that are fed as many`,
    floor: 'none: one consumer each, a thousand at a time',
    rounds: 3,
    contenders: {
      'pg-boss': pgBossConsuming(events),
      'graphile-worker': graphileWorkerConsuming(events),
      ours: oursDoingNothing,
    },
    targets: [
      { of: 'ours', against: 'pg-boss', figure: 'perSecond', atLeast: 1 },
      { of: 'ours', against: 'graphile-worker', figure: 'perSecond', atLeast: 1 },
    ],
  },
  {
    id: 'F4',
    work: 'consumption with one SQL write per batch (a total; for comparison a row per event), exactly once',
    floor: 'the same without the write',
    contenders: { 'doing nothing': oursDoingNothing, ours: oursWriting, 'a row per event': oursWritingAll },
    targets: [{ of: 'ours', against: 'doing nothing', figure: 'perSecond', atLeast: 0.8 }],
  },
  {
    id: 'F5',
    work: 'commit to handler, 100 events a second',
    floor: 'none: the time itself is bounded',
    rounds: 3,
    contenders: { poll: commitToHandler('poll', 'poll'), notify: commitToHandler('notify', 'notify') },
    targets: [
      { of: 'poll', figure: 'p50Us', atMost: 8_000 },
      { of: 'poll', figure: 'p99Us', atMost: 30_000 },
      { of: 'notify', figure: 'p50Us', atMost: 2_000 },
    ],
  },
  {
    id: 'F6c',
    work: 'consumption beside a transaction that is open and has written 500,000 captured rows',
    floor: 'the same without that transaction',
    rounds: 3,
    contenders: { alone: consumptionBeside(false), ours: consumptionBeside(true) },
    targets: [{ of: 'ours', against: 'alone', figure: 'perSecond', atLeast: 0.8 }],
  },
  {
    id: 'F6l',
    work: 'commit to handler beside such a transaction, polling',
    floor: 'the same without that transaction',
    rounds: 3,
    contenders: {
      alone: commitToHandler('alone', 'poll'),
      ours: commitToHandler('beside', 'poll', longWriter(url)),
    },
    targets: [{ of: 'ours', against: 'alone', figure: 'p50Us', atMost: 1.2 }],
  },
  {
    id: 'F7',
    work: 'leader killed to the next event handled by its successor',
    floor: 'none: the time itself is bounded',
    rounds: 2,
    contenders: { advisory: killedLeader('advisory'), table: killedLeader('table') },
    targets: [
      { of: 'advisory', figure: 'p50Ms', atMost: 300 },
      { of: 'table', figure: 'worstMs', atMost: takeoverMs + 1_000 },
    ],
  },
  {
    id: 'F8',
    work: `${loggedRows.toLocaleString('en')} rows logged, handled and pruned over`,
    floor: 'its own first quarter; a block of the log is 2^20 rows',
    rounds: 1,
    contenders: { ours: prunedLog },
    targets: [
      { of: 'ours', figure: 'lastOverFirst', atLeast: 0.85 },
      { of: 'ours', figure: 'largestLogBlocks', atMost: 3 },
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
    return rowsOn(url)
  },
}
