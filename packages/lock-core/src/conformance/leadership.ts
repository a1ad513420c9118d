import assert from 'node:assert/strict'
import { createLeaderElector } from '../leader-elector.ts'
import type { DemotionReason, LeaderElector, LeaderTerm } from '../leadership.ts'
import type { Locker } from '../locker.ts'
import type { Topic } from './bench.ts'

/** A leader elector over the adapter: one leader at a time, and a successor. */
export const leadership: Topic = {
  name: 'leadership',
  cases: [
    {
      name: 'one of two candidates leads; the other follows when it resigns or stops',
      async run(bench) {
        const [one, other] = await bench.lockers(2)
        const key = bench.key()
        const log: string[] = []
        const first = bench.owns(candidate(one, key, 'first', log))
        const second = bench.owns(candidate(other, key, 'second', log))
        first.start()
        await bench.until('the first candidate leads', () => first.isLeader())
        second.start()
        await bench.waiting(one, key, 1)
        assert.equal(second.isLeader(), false, 'two leaders')
        const before = first.term?.fencingToken ?? null
        // Without a line over processes, the first is away for long enough that the other hears of it, by polling if need be.
        const pauseMs = bench.capabilities.fifo === 'global' ? 20 : 1_000
        await bench.soon('resign()', first.resign({ pauseMs }))
        await bench.until('the second candidate leads', () => second.isLeader())
        assert.equal(first.isLeader(), false, 'two leaders')
        if (before !== null) assert((second.term?.fencingToken ?? -1n) > before, 'the successor has no higher token')
        await bench.soon('stop()', second.stop())
        await bench.until('the first candidate leads again', () => first.isLeader())
        await bench.soon('close()', Promise.all([first.close(), second.close()]))
        assert.deepEqual(log, [
          'first elected 1',
          'first demoted 1: resigned',
          'second elected 1',
          'second demoted 1: stopped',
          'first elected 2',
          'first demoted 2: stopped',
        ])
      },
    },
    {
      name: 'a leader whose session ends is told before it leads again',
      skip: ({ hooks }) => (hooks.endSession === undefined ? 'hooks.endSession is not given' : null),
      async run(bench) {
        const [one, other] = await bench.lockers(2)
        const key = bench.key()
        const log: string[] = []
        const elector = bench.owns(candidate(one, key, 'leader', log))
        elector.start()
        await bench.until('the candidate leads', () => elector.isLeader())
        const term = elector.term
        assert(term !== null)
        await bench.hooks.endSession?.(one)
        await bench.until('the term is over', () => !term.isCurrent() && term.signal.aborted, bench.detectMs)
        await bench.until('the candidate leads again', () => elector.isLeader())
        assert.equal(await other.tryAcquire(key), null, 'the office is free although somebody leads')
        await bench.soon('close()', elector.close())
        assert.equal(log.length, 4, log.join('; '))
        assert.match(log[1] ?? '', /^leader demoted 1/)
        assert.match(log[2] ?? '', /^leader elected 2/)
      },
    },
  ],
}

function candidate(locker: Locker, key: string, name: string, log: string[]): LeaderElector {
  return createLeaderElector({
    locker,
    key,
    candidate: name,
    elected: (term: LeaderTerm) => {
      log.push(`${name} elected ${term.number}`)
    },
    demoted: (reason: DemotionReason, term: LeaderTerm) => {
      log.push(`${name} demoted ${term.number}: ${reason}`)
    },
    onError: (error) => {
      log.push(`${name} error: ${String(error)}`)
    },
  })
}
