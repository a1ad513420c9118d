import { setImmediate as nextTurn } from 'node:timers/promises'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { Candidate, type CandidateOptions } from '../../src/elector/candidate.ts'
import { createLeaderElector, type LeaderElectorOptions, type Locker } from '../../src/index.ts'
import { createMemoryLocker, type MemoryLocker } from '../../src/memory/index.ts'
import { delegate } from '../delegate.ts'
import { ManualClock } from '../manual-clock.ts'

const electors: Candidate[] = []

function candidate(
  locker: Locker,
  options: Partial<CandidateOptions> = {},
): { elector: Candidate; log: string[]; clock: ManualClock } {
  const log: string[] = []
  const clock = new ManualClock()
  const elector = new Candidate(
    {
      locker,
      key: 'office',
      retryMs: 1_000,
      stopTimeoutMs: 5_000,
      elected: (term) => void log.push(`elected ${term.number}`),
      demoted: (reason, term) => void log.push(`demoted ${term.number} ${reason}`),
      onError: (error) => void log.push(`error ${error instanceof Error ? error.message : String(error)}`),
      ...options,
    },
    clock,
    () => 0.5,
  )
  electors.push(elector)
  return { elector, log, clock }
}

const until = (condition: () => boolean): Promise<void> =>
  vi.waitFor(() => expect(condition()).toBe(true), { interval: 1, timeout: 30_000 })

/** A locker whose acquire fails until it is told otherwise. */
function unreachable(locker: MemoryLocker): { locker: Locker; reachable: { now: boolean } } {
  const reachable = { now: false }
  const acquire: Locker['acquire'] = (key, options) =>
    reachable.now ? locker.acquire(key, options) : Promise.reject(new Error('connection refused'))
  return { locker: delegate(locker, { acquire }), reachable }
}

afterEach(async () => {
  await Promise.all(electors.splice(0).map((elector) => elector.close()))
})

describe('a leader elector', () => {
  it('moves from idle over campaigning to leading, and ends stopped', async () => {
    const locker = createMemoryLocker()
    const { elector, log } = candidate(locker, { candidate: 'me' })
    expect([elector.state, elector.isLeader(), elector.term]).toEqual(['idle', false, null])
    elector.start()
    expect(elector.state).toBe('campaigning')
    elector.start()
    await until(() => elector.isLeader())
    expect(elector.state).toBe('leading')
    expect(elector.term).toMatchObject({ number: 1, fencingToken: 1n })
    expect((await elector.leader()).metadata).toEqual({ candidate: 'me' })
    await elector.stop()
    expect([elector.state, elector.term]).toEqual(['stopped', null])
    expect((await elector.leader()).isAcquired).toBe(false)
    expect(log).toEqual(['elected 1', 'demoted 1 stopped'])
  })

  it('stop() ends a campaign that never succeeded, and an elector that never started', async () => {
    const locker = createMemoryLocker()
    await using _taken = await locker.acquire('office')
    const { elector, log } = candidate(locker)
    await elector.stop()
    expect(elector.state).toBe('stopped')
    elector.start()
    await until(() => elector.state === 'campaigning')
    await elector.stop()
    expect(elector.state).toBe('stopped')
    expect((await locker.status('office')).waiters).toBe(0)
    expect(log).toEqual([])
  })

  it('may be started again after stop(), also before it has ended, but not after close()', async () => {
    const { elector, log } = candidate(createMemoryLocker())
    elector.start()
    await until(() => elector.isLeader())
    const stopped = elector.stop()
    elector.start()
    await stopped
    await until(() => elector.isLeader())
    expect(log).toEqual(['elected 1', 'demoted 1 stopped', 'elected 2'])
    await elector.close()
    await elector.close()
    expect(() => elector.start()).toThrow(expect.objectContaining({ code: 'CLOSED' }))
  })

  it('stops the work of a term before its lock is released', async () => {
    const locker = createMemoryLocker()
    const order: string[] = []
    const work = Promise.withResolvers<void>()
    const { elector } = candidate(locker, {
      elected: async (term) => {
        term.signal.addEventListener('abort', () => order.push('told to stop'))
        await work.promise
        order.push('work ended')
      },
      demoted: () => void order.push('demoted'),
    })
    elector.start()
    await until(() => elector.isLeader())
    const successor = locker.acquire('office').then((lock) => {
      order.push('successor')
      return lock.release()
    })
    const resigned = elector.resign({ pauseMs: 60_000 })
    expect(elector.isLeader()).toBe(false)
    expect(order).toEqual(['told to stop'])
    await nextTurn()
    expect(order).toEqual(['told to stop', 'demoted'])
    expect((await locker.status('office')).isAcquired).toBe(true)
    work.resolve()
    await resigned
    await successor
    expect(order).toEqual(['told to stop', 'demoted', 'work ended', 'successor'])
  })

  it('does not wait longer than stopTimeoutMs for work that does not end', async () => {
    const locker = createMemoryLocker()
    const { elector, clock } = candidate(locker, {
      elected: () => new Promise(() => {}),
      demoted: () => new Promise(() => {}),
    })
    elector.start()
    await until(() => elector.isLeader())
    const stopped = elector.stop()
    await nextTurn()
    clock.advance(4_999)
    await nextTurn()
    expect((await locker.status('office')).isAcquired).toBe(true)
    clock.advance(1)
    await stopped
    expect((await locker.status('office')).isAcquired).toBe(false)
  })

  it('resign() hands over, sits out the pause, and campaigns again', async () => {
    const locker = createMemoryLocker()
    const { elector, log, clock } = candidate(locker)
    elector.start()
    await until(() => elector.isLeader())
    await elector.resign({ pauseMs: 3_000 })
    expect((await locker.status('office')).isAcquired).toBe(false)
    await until(() => clock.pending === 1)
    clock.advance(2_999)
    await nextTurn()
    expect([elector.state, elector.isLeader()]).toEqual(['campaigning', false])
    clock.advance(1)
    await until(() => elector.isLeader())
    expect(log).toEqual(['elected 1', 'demoted 1 resigned', 'elected 2'])
    await elector.resign()
    await until(() => clock.pending === 1)
    clock.advance(1_000)
    await until(() => elector.isLeader())
  })

  it('resign() of one who does not lead does nothing', async () => {
    const { elector, log } = candidate(createMemoryLocker())
    await elector.resign()
    expect(log).toEqual([])
  })

  it('is told of a loss before it leads again, and its signal aborts at once', async () => {
    const locker = createMemoryLocker()
    const { elector, log, clock } = candidate(locker)
    elector.start()
    await until(() => elector.isLeader())
    const term = elector.term
    await locker.forceRelease('office')
    expect([elector.isLeader(), term?.isCurrent(), term?.signal.aborted]).toEqual([false, false, true])
    expect(term?.signal.reason).toMatchObject({ code: 'LOCK_LOST', reason: 'forced' })
    // Taken away on purpose: it does not snatch the office back at once.
    await until(() => log.length === 2)
    await nextTurn()
    expect(clock.pending).toBe(1)
    expect(elector.isLeader()).toBe(false)
    clock.advance(1_000)
    await until(() => elector.isLeader())
    expect(log).toEqual(['elected 1', 'demoted 1 forced', 'elected 2'])
    expect(elector.term?.fencingToken).toBe(2n)
  })

  it('steps down by the local deadline when renewals fail, and says so', async () => {
    let now = 0
    const locker = createMemoryLocker({ now: () => now })
    const { elector, log } = candidate(locker, { ttlMs: 300 })
    elector.start()
    await until(() => elector.isLeader())
    const term = elector.term
    now += 300
    // In the very next line, whatever the timers do.
    expect(elector.isLeader()).toBe(false)
    expect(term?.signal.aborted).toBe(true)
    await until(() => log.includes('demoted 1 deadline') || log.includes('demoted 1 lease-expired'))
  })

  it('keeps a ttl of its own alive, and survives a failed renewal', async () => {
    const locker = createMemoryLocker()
    const { elector, log, clock } = candidate(locker, { ttlMs: 60_000 })
    elector.start()
    await until(() => elector.isLeader())
    const refresh = vi.spyOn((elector.term as unknown as { lock: { refresh(): Promise<void> } }).lock, 'refresh')
    refresh.mockRejectedValueOnce(new Error('connection reset'))
    for (let renewal = 0; renewal < 3; renewal += 1) {
      await until(() => clock.pending === 1)
      clock.advance(20_000)
      await nextTurn()
    }
    expect(refresh).toHaveBeenCalledTimes(3)
    expect(elector.isLeader()).toBe(true)
    expect(log).toEqual(['elected 1', 'error connection reset'])
  })

  it('retries with a pause while the store cannot be reached, and reports each error', async () => {
    const { locker, reachable } = unreachable(createMemoryLocker())
    const { elector, log, clock } = candidate(locker)
    elector.start()
    await until(() => clock.pending === 1)
    clock.advance(1_000)
    await until(() => log.length === 2 && clock.pending === 1)
    reachable.now = true
    clock.advance(1_000)
    await until(() => elector.isLeader())
    expect(log).toEqual(['error connection refused', 'error connection refused', 'elected 1'])
  })

  it('shows why nobody leads, to who gave it neither a logger nor a listener', async () => {
    const { locker, reachable } = unreachable(createMemoryLocker())
    const { elector, clock } = candidate(locker, { onError: undefined })
    expect(elector.lastError).toBeNull()
    elector.start()
    await until(() => clock.pending === 1)
    expect(elector.lastError).toMatchObject({ message: 'connection refused' })
    reachable.now = true
    clock.advance(1_000)
    await until(() => elector.isLeader())
    expect(elector.lastError).toBeNull()
  })

  it('stop() does not wait for the pause', async () => {
    const { elector, clock } = candidate(unreachable(createMemoryLocker()).locker)
    elector.start()
    await until(() => clock.pending === 1)
    await elector.stop()
    expect(clock.pending).toBe(0)
  })

  it('ends when its locker is closed: there is nothing to campaign with', async () => {
    const locker = createMemoryLocker()
    const { elector, log } = candidate(locker)
    elector.start()
    await until(() => elector.isLeader())
    await locker.close()
    await until(() => elector.state === 'stopped')
    expect(log[1]).toBe('demoted 1 closed')
    expect(log[2]).toMatch(/^error .*closed/)
  })

  it('errors of callbacks and listeners are reported and end neither term nor elector', async () => {
    const fail = (what: string) => async () => Promise.reject(new Error(what))
    const { elector, log } = candidate(createMemoryLocker(), { elected: fail('elected'), demoted: fail('demoted') })
    const heard: unknown[] = []
    elector.on('error', (error) => heard.push((error as Error).message))
    elector.on('error', () => {
      throw new Error('an error listener')
    })
    elector.on('elected', () => {
      throw new Error('a listener')
    })
    elector.start()
    await until(() => elector.isLeader() && log.includes('error elected'))
    expect(elector.isLeader()).toBe(true)
    await elector.stop()
    expect(heard.toSorted()).toEqual(['a listener', 'demoted', 'elected'])
    expect(log).toContain('error an error listener')
  })

  it('an onError that throws is no danger', async () => {
    const { elector } = candidate(createMemoryLocker(), {
      elected: () => {
        throw new Error('elected')
      },
      onError: () => {
        throw new Error('onError')
      },
    })
    elector.start()
    await until(() => elector.isLeader())
    await elector.stop()
    expect(elector.state).toBe('stopped')
  })

  it('work that ends with the reason of its signal is not an error', async () => {
    const { elector, log } = candidate(createMemoryLocker(), {
      elected: (term) =>
        new Promise((_, reject) => term.signal.addEventListener('abort', () => reject(term.signal.reason))),
    })
    elector.start()
    await until(() => elector.isLeader())
    await elector.stop()
    expect(log).toEqual(['demoted 1 stopped'])
  })

  it('tells listeners in order, until they unsubscribe', async () => {
    const { elector } = candidate(createMemoryLocker())
    const heard: string[] = []
    const offs = [
      elector.on('elected', (term) => heard.push(`elected ${term.number}`)),
      elector.on('demoted', (reason, term) => heard.push(`demoted ${term.number} ${reason}`)),
    ]
    elector.start()
    await until(() => elector.isLeader())
    await elector.stop()
    for (const off of offs) off()
    elector.start()
    await until(() => elector.isLeader())
    expect(heard).toEqual(['elected 1', 'demoted 1 stopped'])
  })

  it('start() called twice while a stop is under way begins one campaign, which the next stop() ends', async () => {
    const work = Promise.withResolvers<void>()
    const { elector, log } = candidate(createMemoryLocker(), { elected: () => work.promise })
    elector.start()
    await until(() => elector.isLeader())
    const stopped = elector.stop()
    elector.start()
    elector.start()
    work.resolve()
    await stopped
    await until(() => elector.isLeader())
    await elector.stop()
    expect(elector.state).toBe('stopped')
    expect(log.filter((line) => line.startsWith('demoted'))).toEqual(['demoted 1 stopped', 'demoted 2 stopped'])
  })

  it('pauses when the lock that it was given is over already, instead of asking for one after the other', async () => {
    const locker = createMemoryLocker()
    let grants = 0
    const acquire: Locker['acquire'] = async (key, options) => {
      grants += 1
      const lock = await locker.acquire(key, options)
      // As with a ttl that is shorter than the way to the store.
      if (grants < 3) await locker.forceRelease(key)
      await nextTurn()
      return lock
    }
    const { elector, log, clock } = candidate(delegate(locker, { acquire }))
    elector.start()
    for (const expected of [1, 2]) {
      await until(() => grants >= expected)
      for (let turn = 0; turn < 10; turn += 1) await nextTurn()
      expect([grants, elector.state]).toEqual([expected, 'campaigning'])
      clock.advance(1_200)
    }
    await until(() => elector.isLeader())
    expect(log).toEqual(['elected 1'])
  })

  it('of many candidates exactly one leads at any time, through random resignations', async () => {
    const store = {}
    let leaders = 0
    const many = Array.from({ length: 5 }, () => {
      const { elector, log } = candidate(createMemoryLocker({ store }), {
        elected: (term) => {
          leaders += 1
          expect(leaders).toBe(1)
          term.signal.addEventListener('abort', () => {
            leaders -= 1
          })
        },
      })
      elector.start()
      return { elector, log }
    })
    for (let round = 0; round < 30; round += 1) {
      await until(() => many.some(({ elector }) => elector.isLeader()))
      expect(many.filter(({ elector }) => elector.isLeader())).toHaveLength(1)
      await many.find(({ elector }) => elector.isLeader())?.elector.resign({ pauseMs: 0 })
    }
    expect(many.every(({ log }) => log.every((line) => !line.startsWith('error')))).toBe(true)
  })
})

describe('createLeaderElector', () => {
  it.each<[string, Partial<Record<keyof LeaderElectorOptions, unknown>>]>([
    ['key', { key: 7 }],
    ['key', { key: '' }],
    ['locker', { locker: null }],
    ['ttlMs', { ttlMs: 5 }],
    ['retryMs', { retryMs: 0 }],
    ['stopTimeoutMs', { stopTimeoutMs: -1 }],
    ['elected', { elected: 'yes' }],
    ['candidate', { candidate: 'a\0' }],
    ['candidate', { candidate: 'x'.repeat(4_096) }],
  ])('refuses a bad %s', (option, bad) => {
    const options = { locker: createMemoryLocker(), key: 'office', ...bad } as LeaderElectorOptions
    expect(() => createLeaderElector(options)).toThrow(expect.objectContaining({ code: 'INVALID_OPTIONS', option }))
  })

  it('leads', async () => {
    await using elector = createLeaderElector({ locker: createMemoryLocker(), key: 'office' })
    elector.start()
    await until(() => elector.isLeader())
  })
})
