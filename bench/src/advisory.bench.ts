import { migrate } from '@x/lock-advisory/migrations'
import { Pool } from 'pg'
import type { Benchmark, Row } from './benchmark.ts'
import { handOff } from './hand-off/hand-off.ts'
import { killedHolder } from './hand-off/killed-holder.ts'
import { bigIntHasher, ourHasher } from './hasher.ts'
import { heartbeats } from './heartbeats.ts'
import { heldLocks } from './held-locks.ts'
import { bareArrays, bareStatements, connectionPerLock, npmAdvisoryLock } from './peers/advisory-peers.ts'
import { notOnRegistry } from './peers/not-on-registry.ts'
import { ourAdvisory } from './peers/our-advisory.ts'
import { manyCallers, oneCaller } from './peers/pair.ts'
import { redlock } from './peers/redlock.ts'
import { syncguard } from './peers/syncguard.ts'

const rows: readonly Row[] = [
  {
    id: 'A1',
    work: 'acquire and release, one caller, one after the other',
    floor: 'two bare round trips: pg_try_advisory_lock and pg_advisory_unlock, named statements on one connection',
    contenders: {
      floor: oneCaller(bareStatements, 2_000),
      ours: oneCaller(ourAdvisory({ fencing: 'none' }), 2_000),
      'connection per lock': oneCaller(connectionPerLock, 2_000),
      'npm advisory-lock': oneCaller(npmAdvisoryLock, 50),
      'npm pg-advisory-lock': notOnRegistry('pg-advisory-lock'),
      'npm syncguard': oneCaller(syncguard, 50),
      redlock: oneCaller(redlock, 2_000),
    },
    targets: [{ of: 'ours', against: 'floor', figure: 'p50Us', atMost: 1.15 }],
  },
  {
    id: 'A2',
    work: '1,000 callers at once, distinct keys',
    floor: 'two bare statements over an array of the 1,000 ids',
    contenders: {
      floor: manyCallers(bareArrays, 1_000, 20),
      ours: manyCallers(ourAdvisory({ fencing: 'none' }), 1_000, 20),
      'connection per lock': manyCallers(connectionPerLock, 1_000, 2),
      redlock: manyCallers(redlock, 1_000, 2),
    },
    targets: [
      { of: 'ours', against: 'connection per lock', figure: 'perSecond', atLeast: 15 },
      { of: 'ours', against: 'redlock', figure: 'perSecond', atLeast: 7 },
      { of: 'ours', against: 'floor', figure: 'perSecond', atLeast: 0.65 },
    ],
  },
  {
    id: 'A3',
    work: '10,000 locks held by one locker',
    floor: 'none: a connection for each lock could not be opened at all',
    rounds: 3,
    contenders: { ours: heldLocks(10_000) },
    targets: [
      { of: 'ours', figure: 'connections', atMost: 1 },
      { of: 'ours', figure: 'heapBytesPerLock', atMost: 1_024 },
    ],
  },
  {
    id: 'A3 beat',
    work: '10,000 locks held while nothing happens: what the session costs to keep',
    floor: 'the same session with one lock',
    rounds: 3,
    contenders: { 'one lock': heartbeats(1), '10,000 locks': heartbeats(10_000) },
    targets: [
      { of: '10,000 locks', against: 'one lock', figure: 'beats', atMost: 1.1 },
      { of: '10,000 locks', against: 'one lock', figure: 'serverUsPerBeat', atMost: 1.25 },
    ],
  },
  {
    id: 'A4',
    work: 'hand-off under contention, 2, 4 and 100 waiters in up to 4 processes: from a release to the next grant',
    floor: 'pg_advisory_lock and pg_advisory_unlock, a connection for each waiter',
    rounds: 5,
    contenders: { bare: handOff('bare'), server: handOff('server'), notify: handOff('notify') },
    targets: [
      { of: 'server', against: 'bare', figure: 'p50Us2', atMost: 1.5 },
      { of: 'server', against: 'bare', figure: 'p50Us100', atMost: 1.5 },
      { of: 'notify', figure: 'p50Us2', atMost: 2_000 },
      { of: 'notify', figure: 'p50Us100', atMost: 2_000 },
      { of: 'server', figure: '100to4', atMost: 1.25 },
      { of: 'notify', figure: '100to4', atMost: 1.25 },
      // Against the bare lock: on one core four busy processes are slower than two, whatever they do.
      { of: 'server', against: 'bare', figure: '100to2', atMost: 1.25 },
      { of: 'notify', against: 'bare', figure: '100to2', atMost: 1.25 },
    ],
  },
  {
    id: 'A5',
    work: 'fencing tokens from the sequence: A1 and A2 with and without',
    floor: 'the same locker with fencing: none',
    contenders: {
      'A1 without': oneCaller(ourAdvisory({ fencing: 'none' }), 2_000),
      'A1 with': oneCaller(ourAdvisory({ fencing: 'sequence' }), 2_000),
      'A2 without': manyCallers(ourAdvisory({ fencing: 'none' }), 1_000, 20),
      'A2 with': manyCallers(ourAdvisory({ fencing: 'sequence' }), 1_000, 20),
    },
    targets: [
      { of: 'A1 with', against: 'A1 without', figure: 'p50Us', atMost: 1.1 },
      { of: 'A2 with', against: 'A2 without', figure: 'totalMs', atMost: 1.3 },
    ],
  },
  {
    id: 'A6',
    work: 'holder killed by SIGKILL, a waiter in another process holds',
    floor: 'none: the server has to notice the closed socket',
    rounds: 5,
    contenders: { server: killedHolder('server'), notify: killedHolder('notify') },
    targets: [
      { of: 'server', figure: 'p50Ms', atMost: 50 },
      { of: 'notify', figure: 'worstMs', atMost: 1_200 },
    ],
  },
  {
    id: 'hasher',
    work: 'ids of keys of 32 bytes, on one core',
    floor: 'the definition of FNV-1a with BigInt for each byte',
    contenders: { floor: bigIntHasher, ours: ourHasher },
    targets: [{ of: 'ours', figure: 'perSecond', atLeast: 2_000_000 }],
  },
]

export const benchmark: Benchmark = {
  name: 'advisory',
  title: 'Advisory locks',
  // The shared memory guard holds a quarter of max_locks_per_transaction × connections: 10,000 locks want more than the default.
  settings: { max_locks_per_transaction: '512' },
  async rows({ url }) {
    const pool = new Pool({ connectionString: url, max: 1 })
    await migrate(pool)
    await pool.end()
    return rows
  },
}
