/** A process that takes locks, holds them for a while, and writes under their protection. */
import { setTimeout as delay } from 'node:timers/promises'
import { createAdvisoryLocker } from '@x/lock-advisory'
import type { Lock, Locker } from '@x/lock-core'
import { createMemoryLocker } from '@x/lock-core/memory'
import { checkFence, createTableLocker } from '@x/lock-table'
import { monotonicMicros, randomSource, tell } from '@x/testkit'
import { Pool } from 'pg'
import { z } from 'zod'
import { dropPool, runActor, tellFailure } from './actor.ts'

const settings = z
  .object({
    adapter: z.enum(['table', 'table-poll', 'advisory', 'advisory-server', 'unshared']),
    url: z.string(),
    processName: z.string(),
    keys: z.array(z.string()),
    workers: z.number(),
    ttlMs: z.number(),
    seed: z.number(),
  })
  .parse(JSON.parse(process.argv[2] ?? ''))

const { adapter, url, processName, keys, ttlMs } = settings
const isLease = adapter === 'table' || adapter === 'table-poll'

const createLocker = (): Locker => {
  // Excludes nobody in another process: what the campaign must find.
  if (adapter === 'unshared') return createMemoryLocker()
  if (isLease) {
    const wakeUps = adapter === 'table' ? 'listen' : 'poll'
    return createTableLocker({ connectionString: url, ttlMs, pollMs: 200, wakeUps, acquirer: { name: processName } })
  }
  const wait = adapter === 'advisory' ? 'notify' : 'server'
  return createAdvisoryLocker({ connectionString: url, detectMs: ttlMs, wait, applicationName: processName })
}

const locker = createLocker()
const writes = new Pool({
  connectionString: url,
  max: 2,
  application_name: `writes ${processName}`,
  connectionTimeoutMillis: 2_000,
  // Of every statement, checkFence's too: on a line that swallows every byte the answer never comes.
  query_timeout: 5_000,
  // A writer whose line is dead must not keep the fence locked for the rest of the run.
  idle_in_transaction_session_timeout: 2_000,
})
writes.on('error', () => {})
// A pool takes its own listener away from a client that is out, and the server may end it while it is handed over.
writes.on('connect', (client) => client.on('error', () => {}))
const dropWrites = dropPool(writes)

let finishing = false
let holds = 0

/** A write that the fence must refuse when a later holder has written. Asks nobody whether the lock is still held. */
const writeGuarded = async (lock: Lock): Promise<void> => {
  if (lock.fencingToken === null) return
  const client = await writes.connect().catch(() => null)
  if (client === null) return
  let broken: Error | undefined
  try {
    await client.query('BEGIN')
    await checkFence(client, { resource: lock.key, token: lock.fencingToken })
    await client.query('INSERT INTO writes (key, token) VALUES ($1, $2)', [lock.key, lock.fencingToken])
    await client.query('COMMIT')
  } catch (error) {
    broken = error instanceof Error ? error : new Error(String(error))
    if ('code' in broken && broken.code === 'STALE_FENCE') tell({ type: 'refused', key: lock.key })
  } finally {
    client.release(broken)
  }
}

/** Looks at the lock until it is over or time is up. The clock is read before the lock is asked: see LockHistory. */
const observe = async (lock: Lock, hold: number, forMs: number): Promise<void> => {
  const until = performance.now() + forMs
  let told = 0
  for (;;) {
    const at = monotonicMicros()
    if (!lock.isHeld()) return
    if (at - told > 5_000) {
      tell({ type: 'held', hold, at })
      told = at
    }
    if (performance.now() >= until) return
    await delay(1)
  }
}

const work = async (worker: number): Promise<void> => {
  const random = randomSource(settings.seed).fork(`${processName}/${worker}`)
  while (!finishing) {
    const key = random.pick(keys)
    const mode = random.chance(0.2) ? 'shared' : 'exclusive'
    const waitTimeoutMs = random.pick([0, 20, 500, 3_000])
    try {
      const lock = random.chance(0.3)
        ? await locker.tryAcquire(key, { mode })
        : await locker.acquire(key, {
            mode,
            waitTimeoutMs,
            ...(random.chance(0.2) ? { signal: AbortSignal.timeout(random.int(1, 100)) } : {}),
          })
      if (lock === null) {
        await delay(random.int(1, 30))
        continue
      }
      const hold = ++holds
      const at = monotonicMicros()
      if (!lock.isHeld()) continue
      tell({ type: 'granted', hold, key, mode, token: lock.fencingToken?.toString() ?? null, at })
      const writing = random.chance(0.5) ? writeGuarded(lock) : null
      // Some hold on for longer than a ttl: they are the ones that a cut line or a stop can make believe too long.
      await observe(lock, hold, random.chance(0.15) ? random.int(ttlMs, ttlMs * 3) : random.int(0, 80))
      await writing
      // A holder that does not know better writes on: the fence decides.
      if (random.chance(0.3)) await writeGuarded(lock)
      if (random.chance(0.5)) await lock.release()
      else await lock[Symbol.asyncDispose]()
    } catch (error) {
      const isPatience = error instanceof DOMException && (error.name === 'TimeoutError' || error.name === 'AbortError')
      if (!isPatience) tellFailure('lock', error)
      await delay(random.int(5, 50))
    }
  }
}

let workers: Promise<unknown> = Promise.resolve()
await runActor(
  async () => {
    workers = Promise.all(Array.from({ length: settings.workers }, (_, worker) => work(worker)))
  },
  {
    'the workers': () => {
      finishing = true
      return workers
    },
    'locker.close()': () => locker.close(),
    'the writes': dropWrites,
  },
)
