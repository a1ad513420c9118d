import { monotonicNow } from '@x/lock-core/adapter'
import { eventually, spawnNode, startPrivatePostgres, type TestProcess, tcpProxy, terminateBackend } from '@x/testkit'
import { useDatabase } from '@x/testkit/vitest'
import type { Pool } from 'pg'
import { beforeAll, describe, expect, it } from 'vitest'
import { z } from 'zod'
import { type AdvisoryLocker, checkFence, createAdvisoryLocker } from '../../src/index.ts'
import { useLockers } from '../support/lockers.ts'
import { lockAdvisory } from '../support/template.ts'

const database = useDatabase({ template: lockAdvisory })
/** Long enough that a busy machine does not stand still for as long before anything was broken. */
const detectMs = 2_000
/** On top of what is documented, for a machine that is busy with other tests. */
const slackMs = 5_000
const createLocker = useLockers(database, { detectMs, pollMs: 50 })

let pool: Pool
beforeAll(() => {
  pool = database.pool({ max: 4 })
})

interface Watched {
  readonly lost: Promise<{ readonly reason: string; readonly at: number }>
  isHeld(): boolean
}

/** A lock and an untouched neighbour in the same session: both have to go. */
async function hold(locker: AdvisoryLocker): Promise<Watched> {
  const [lock, neighbour] = await Promise.all([locker.acquire('key'), locker.acquire('neighbour')])
  const lost = new Promise<{ reason: string; at: number }>((resolve) => {
    lock.signal.addEventListener(
      'abort',
      () => {
        expect(lock.isHeld()).toBe(false)
        expect(neighbour.isHeld()).toBe(false)
        expect(lock.remainingMs()).toBe(0)
        resolve({ reason: String(Reflect.get(lock.signal.reason, 'reason')), at: monotonicNow() })
      },
      { once: true },
    )
  })
  return { lost, isHeld: () => lock.isHeld() }
}

describe('a session that the server ended', () => {
  it('loses every lock at once; the overlap is short, and a guarded write in it is refused', async () => {
    const overlaps: number[] = []
    for (let round = 0; round < 10; round += 1) {
      const holder = createLocker({ applicationName: `doomed ${round}`, fencing: 'sequence' })
      const successor = createLocker({ fencing: 'sequence', pollMs: 1 })
      const lock = await holder.acquire('key')
      const lost = new Promise<number>((resolve) => {
        lock.signal.addEventListener('abort', () => resolve(monotonicNow()), { once: true })
      })
      const waiter = successor.acquire('key')
      await eventually(async () => (await successor.status('key')).waiters === 1)
      await terminateBackend(pool, { applicationName: `doomed ${round}` })
      const next = await waiter
      const grantedAt = monotonicNow()
      await guardedWrite(next.fencingToken)
      await expect(guardedWrite(lock.fencingToken)).rejects.toMatchObject({ code: 'STALE_FENCE' })
      overlaps.push(Math.max(0, (await lost) - grantedAt))
      expect(lock.signal.reason).toMatchObject({ code: 'LOCK_LOST', reason: 'session-ended' })
      await next.release()
      await Promise.all([holder.close(), successor.close()])
    }
    // The driver hears of the end as soon as its event loop runs; at the latest a heartbeat finds out.
    expect(Math.max(...overlaps)).toBeLessThan(detectMs)
  })

  const guardedWrite = async (token: bigint | null): Promise<void> => {
    if (token === null) throw new Error('expected a token')
    const client = await pool.connect()
    try {
      await client.query('BEGIN')
      await checkFence(client, { resource: 'key', token })
      await client.query('COMMIT')
    } catch (error) {
      await client.query('ROLLBACK')
      throw error
    } finally {
      client.release()
    }
  }
})

describe('a connection that breaks', () => {
  it('is lost at once when the socket is reset', async () => {
    await using proxy = await tcpProxy(database.url)
    const held = await hold(createLocker({ connection: proxy.url(database.url) }))
    const cutAt = monotonicNow()
    proxy.cut()
    const { reason, at } = await held.lost
    expect(reason).toBe('session-ended')
    expect(at - cutAt).toBeLessThan(detectMs + slackMs)
    await (await createLocker().acquire('key', { waitTimeoutMs: 20_000 })).release()
  })

  it.each(['halfOpen', 'blackHole'] as const)(
    'is lost by the local deadline when nothing comes back (%s), before anybody else is granted the lock',
    async (fault) => {
      await using proxy = await tcpProxy(database.url)
      const held = await hold(createLocker({ connection: proxy.url(database.url) }))
      const next = createLocker().acquire('key')
      const order: string[] = []
      void next.then(() => order.push('granted'))
      const brokenAt = monotonicNow()
      proxy[fault]()
      const { at, reason } = await held.lost
      order.push('lost')
      expect(reason).toBe('deadline')
      expect(at - brokenAt).toBeLessThan(detectMs + slackMs)
      expect(held.isHeld()).toBe(false)
      // The server still believes in the session that it cannot hear: it lets nobody in until it gives it up.
      await proxy.close()
      await (await next).release()
      expect(order).toEqual(['lost', 'granted'])
    },
  )

  it('goes on when the line was bad for less than the detection time', async () => {
    await using proxy = await tcpProxy(database.url)
    const held = await hold(createLocker({ connection: proxy.url(database.url) }))
    proxy.delay(20)
    await new Promise((resolve) => setTimeout(resolve, 2 * detectMs))
    expect(held.isHeld()).toBe(true)
  })
})

describe('a server that ends idle sessions', () => {
  it('does not end ours, because the session says so', async () => {
    await pool.query(`ALTER DATABASE ${database.name} SET idle_session_timeout = '100ms'`)
    try {
      const held = await hold(createLocker({ detectMs: 30_000 }))
      await new Promise((resolve) => setTimeout(resolve, 600))
      expect(held.isHeld()).toBe(true)
      expect((await createLocker().status('key')).isAcquired).toBe(true)
    } finally {
      await pool.query(`ALTER DATABASE ${database.name} RESET idle_session_timeout`)
    }
  })
})

describe('a server that restarts', () => {
  it.each(['fast', 'immediate'] as const)(
    '(%s) ends locks loudly; waiters and later callers get them',
    async (mode) => {
      await using server = await startPrivatePostgres()
      await using holder = createAdvisoryLocker({ connectionString: server.url, detectMs })
      await using other = createAdvisoryLocker({ connectionString: server.url, detectMs, pollMs: 50 })
      const held = await hold(holder)
      const waiter = other.acquire('key')
      await eventually(async () => (await other.status('key')).waiters === 1)
      await server.restart(mode)
      expect((await held.lost).reason).toBe('session-ended')
      await (await waiter).release()
      await (await holder.acquire('key', { waitTimeoutMs: 20_000 })).release()
    },
  )
})

const holderMessages = z.object({
  kind: z.string(),
  held: z.boolean().optional(),
  aborted: z.boolean().optional(),
  reason: z.string().optional(),
  token: z.string().nullish(),
  pausedMs: z.number().optional(),
})

/**
 * A process that was stopped while it held the key. A machine that is busy stops it late; who runs sends a heartbeat each
 * third of detectMs. It may also be too busy to answer them: who has lost the key before it stood still shows nothing.
 */
const stoppedHolder = async (key: string): Promise<TestProcess<z.infer<typeof holderMessages>>> => {
  const hasStoodStill = `SELECT clock_timestamp() - state_change > $1 * interval '1 millisecond' AS yes
                           FROM pg_stat_activity WHERE application_name = $2`
  for (;;) {
    const child = await spawnNode(new URL('../support/holder.ts', import.meta.url), {
      messages: holderMessages,
      args: [database.url, key, String(detectMs)],
    })
    const isLost = (): boolean => child.messages.some(({ kind }) => kind === 'lost')
    await child.message(({ kind }) => kind === 'held')
    child.pause()
    await eventually(
      async () =>
        isLost() || (await pool.query(hasStoodStill, [2 * detectMs, `holder of ${key}`])).rows[0]?.yes === true,
    )
    if (!isLost()) return child
    await child.kill()
  }
}

describe('a holder that stands still', () => {
  it('knows in the first line after SIGCONT, although its successor is long there', async () => {
    await using child = await stoppedHolder('stopped')
    // Its kernel answers for it: the server sees nothing wrong, and lets nobody in.
    const successor = createLocker()
    expect(await successor.tryAcquire('stopped')).toBe(null)
    await terminateBackend(pool, { applicationName: 'holder of stopped' })
    const next = await successor.acquire('stopped', { waitTimeoutMs: 20_000 })
    child.resume()
    expect(await child.message(({ kind }) => kind === 'woke')).toMatchObject({ held: false, aborted: true })
    expect(await child.message(({ kind }) => kind === 'lost')).toMatchObject({ reason: 'deadline' })
    expect(next.isHeld()).toBe(true)
    await next.release()
    expect(await child.exited).toMatchObject({ code: 0 })
  })

  it('knows in the first line after its event loop was blocked', async () => {
    const locker = createLocker()
    const lock = await locker.acquire('key')
    const { signal } = lock
    const endsAt = monotonicNow() + detectMs + 20
    while (monotonicNow() < endsAt);
    expect(signal.aborted).toBe(true)
    expect(lock.isHeld()).toBe(false)
    expect(signal.reason).toMatchObject({ reason: 'deadline' })
    await (await createLocker().acquire('key', { waitTimeoutMs: 20_000 })).release()
    await (await locker.acquire('key', { waitTimeoutMs: 20_000 })).release()
  })
})

describe('waiters', () => {
  it.each(['notify', 'server', 'poll'] as const)('move to a new session when theirs is cut (%s)', async (wait) => {
    await using proxy = await tcpProxy(database.url)
    const holder = await createLocker().acquire('key')
    const locker = createLocker({ connection: proxy.url(database.url), wait })
    const waiter = locker.acquire('key')
    const observer = createLocker()
    await eventually(async () => (await observer.status('key')).waiters === 1)
    proxy.cut()
    await eventually(async () => (await observer.status('key')).waiters === 1)
    await holder.release()
    await (await waiter).release()
    await locker.close()
  })

  it.each([
    ['notify', 60_000],
    ['poll', 50],
  ] as const)('who stands still delays nobody behind him (%s)', async (wait, pollMs) => {
    await using proxy = await tcpProxy(database.url)
    const holder = await createLocker().acquire('key')
    const frozen = createLocker({ connection: proxy.url(database.url), wait, detectMs: 60_000 })
    const first = frozen.acquire('key')
    const observer = createLocker()
    await eventually(async () => (await observer.status('key')).waiters === 1)
    const behind = createLocker({ wait, pollMs }).acquire('key')
    await eventually(async () => (await observer.status('key')).waiters === 2)
    proxy.blackHole()
    await holder.release()
    const next = await behind
    // Who waited behind has taken his interest back, and the one who stands still is still there.
    await eventually(async () => (await observer.status('key')).waiters === 1)
    proxy.heal()
    await next.release()
    await (await first).release()
    await frozen.close()
  })

  it("in the server's queue who stands still is served in his turn, and holds the key until he goes on", async () => {
    await using proxy = await tcpProxy(database.url)
    const holder = await createLocker().acquire('key')
    const there = { connection: proxy.url(database.url), wait: 'server', detectMs: 60_000 } as const
    const frozen = createLocker({ ...there, applicationName: 'frozen' })
    const first = frozen.acquire('key')
    const observer = createLocker()
    await eventually(async () => (await observer.status('key')).waiters === 1)
    const behind = createLocker({ wait: 'server' }).acquire('key')
    await eventually(async () => (await observer.status('key')).waiters === 2)
    proxy.blackHole()
    await holder.release()
    await eventually(async () => (await observer.status('key')).acquirerName === 'frozen')
    proxy.heal()
    await (await first).release()
    await (await behind).release()
    await frozen.close()
  })

  it('a lock whose holder was killed is there for the next one', async () => {
    const messages = z.looseObject({ kind: z.string() })
    await using child = await spawnNode(new URL('../support/holder.ts', import.meta.url), {
      messages,
      args: [database.url, 'killed', '5000'],
    })
    await child.message(({ kind }) => kind === 'held')
    for (const wait of ['notify', 'server'] as const)
      expect(await createLocker({ wait }).tryAcquire('killed')).toBe(null)
    const next = createLocker({ pollMs: 900 }).acquire('killed')
    await child.kill('SIGKILL')
    const killedAt = monotonicNow()
    await (await next).release()
    expect(monotonicNow() - killedAt).toBeLessThan(900 * 1.1 + slackMs)
  })
})

it('who is in the middle of a statement when his session is given up hears of a lost connection, not of a closed locker', async () => {
  await using proxy = await tcpProxy(database.url)
  const locker = createLocker({ connectionString: proxy.url(database.url) })
  const unanswered = (): Promise<void> => proxy.swallowNextReply({ matching: 'advisory_acquire', after: 'hang' })
  /** Beyond the deadline: whoever asks for the session next finds out before any timer runs. */
  const isBusy = (): void => {
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, detectMs + 100)
    void locker.ping().catch(() => {})
  }
  const first = unanswered()
  const acquiring = expect(locker.acquire('key')).rejects.toMatchObject({ code: 'CONNECTION' })
  await first
  // Once more, because what fails in a session is tried in another one first.
  const second = unanswered()
  isBusy()
  await second
  isBusy()
  await acquiring
  await (await locker.acquire('key')).release()
})
