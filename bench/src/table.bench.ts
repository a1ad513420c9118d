import { migrate } from '@x/lock-table/migrations'
import { Pool } from 'pg'
import type { Benchmark, Row } from './benchmark.ts'
import { bareRenewal, ourRenewal } from './floors/leases.ts'
import { bareNotify, handOffs } from './hand-off/lines.ts'
import { manyCallers, oneCaller } from './peers/pair.ts'
import { redlock } from './peers/redlock.ts'
import { syncguard } from './peers/syncguard.ts'
import {
  bareLease,
  bareLeaseUnflushed,
  bareRead,
  handWrittenLease,
  handWrittenLeaseUnflushed,
  ourContendedTry,
  ourLease,
  pooledRead,
} from './peers/table-peers.ts'

const rows: readonly Row[] = [
  {
    id: 'L1',
    work: 'acquire and release, one caller',
    floor: 'a durable upsert and a durable update, named statements on one connection',
    contenders: {
      floor: oneCaller(bareLease, 500),
      'floor, release not flushed': oneCaller(bareLeaseUnflushed, 500),
      'floor through a pool': oneCaller(handWrittenLease, 500),
      ours: oneCaller(ourLease, 500),
      redlock: oneCaller(redlock, 500),
    },
    targets: [
      { of: 'ours', against: 'floor', figure: 'p50Us', atMost: 1.2 },
      // Ours answers a release before it is on disk, and the floor does not: this is like against like.
      { of: 'ours', against: 'floor, release not flushed', figure: 'p50Us' },
    ],
  },
  {
    id: 'L2',
    work: '1,000 callers at once, distinct keys, durable grants',
    floor: 'the same two statements for each lock, through a pool of 10',
    contenders: {
      'hand-written upsert': manyCallers(handWrittenLease, 1_000, 1),
      'hand-written, release not flushed': manyCallers(handWrittenLeaseUnflushed, 1_000, 1),
      ours: manyCallers(ourLease, 1_000, 5),
      redlock: manyCallers(redlock, 1_000, 5),
      'npm syncguard': manyCallers(syncguard, 1_000, 1),
    },
    targets: [
      { of: 'ours', against: 'hand-written upsert', figure: 'perSecond', atLeast: 9 },
      { of: 'ours', against: 'redlock', figure: 'perSecond', atLeast: 1.8 },
      { of: 'ours', against: 'npm syncguard', figure: 'perSecond', atLeast: 10 },
      { of: 'ours', against: 'hand-written, release not flushed', figure: 'perSecond' },
    ],
  },
  {
    id: 'L3',
    work: 'renew 10,000 leases',
    floor: 'one hand-written UPDATE of as many rows, owner and token matched',
    contenders: { floor: bareRenewal, ours: ourRenewal },
    targets: [
      { of: 'ours', figure: 'p50Us', atMost: 40_000 },
      { of: 'ours', against: 'floor', figure: 'p50Us', atMost: 1.2 },
    ],
  },
  {
    id: 'L4',
    work: 'hand-off with 2, 20, 200 waiters in 4 processes, confirmed by a read',
    floor: 'one durable write with one NOTIFY, heard on another connection',
    contenders: {
      floor: bareNotify,
      '2 waiters': handOffs(2),
      '20 waiters': handOffs(20),
      '200 waiters': handOffs(200),
    },
    targets: ['2 waiters', '20 waiters', '200 waiters'].map((of) => ({
      of,
      against: 'floor',
      figure: 'p50Us',
      atMost: 1.8,
    })),
  },
  {
    id: 'L5',
    work: 'contended try',
    floor: 'one bare read of the row by its key',
    contenders: {
      floor: oneCaller(bareRead, 1_000),
      'floor through a pool': oneCaller(pooledRead, 1_000),
      ours: oneCaller(ourContendedTry, 1_000),
    },
    targets: [{ of: 'ours', against: 'floor', figure: 'p50Us', atMost: 1.25 }],
  },
]

export const benchmark: Benchmark = {
  name: 'table',
  title: 'Leases',
  async rows({ url }) {
    const pool = new Pool({ connectionString: url, max: 1 })
    await migrate(pool)
    await pool.end()
    return rows
  },
}
