import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import type { Outcome } from '../../src/batch.ts'
import { SharedMemoryBudget } from '../../src/memory-budget.ts'
import { type Step, step } from '../../src/statements.ts'
import { type Announcer, LineNotice } from '../../src/waiting/line-notice.ts'

const outcome: Outcome = { token: null, sentAt: 0, answeredAtMs: 0, size: 1, woken: null }

class Session implements Announcer {
  readonly submitted: { step: Step; id: string }[] = []
  answers: (Outcome | null)[] = []
  async submit(kind: Step, id: string): Promise<Outcome | null> {
    this.submitted.push({ step: kind, id })
    return this.answers.length > 0 ? (this.answers.shift() ?? null) : outcome
  }
}

describe('LineNotice', () => {
  let session: Session | null
  let waiting: Set<string>
  let budget: SharedMemoryBudget
  let notice: LineNotice
  beforeEach(() => {
    vi.useFakeTimers()
    session = new Session()
    waiting = new Set()
    budget = new SharedMemoryBudget(2)
    notice = new LineNotice(
      () => session,
      (id) => waiting.has(id),
      budget,
    )
  })
  afterEach(() => {
    notice.close()
    vi.useRealTimers()
  })

  const begin = (id: string): void => {
    waiting.add(id)
    notice.begin(id)
  }
  const end = (id: string): void => {
    waiting.delete(id)
    notice.end(id)
  }

  it('announces a line that lasts, once, and withdraws it at its end', async () => {
    begin('1')
    begin('1')
    await vi.advanceTimersByTimeAsync(100)
    end('1')
    end('1')
    expect(session?.submitted).toEqual([
      { step: step.announce, id: '1' },
      { step: step.withdraw, id: '1' },
    ])
    expect(budget.used).toBe(0)
  })

  it('says nothing of a line that is over sooner', async () => {
    begin('1')
    end('1')
    await vi.advanceTimersByTimeAsync(100)
    expect(session?.submitted).toEqual([])
  })

  it('without a session waits for one, and does not spin', async () => {
    const there = session
    session = null
    begin('1')
    begin('2')
    await vi.advanceTimersByTimeAsync(1_000)
    session = there
    await vi.advanceTimersByTimeAsync(100)
    expect(there?.submitted.map(({ id }) => id)).toEqual(['1', '2'])
  })

  it('repeats an announcement that met a probe', async () => {
    if (session !== null) session.answers = [null, null]
    begin('1')
    await vi.advanceTimersByTimeAsync(200)
    expect(session?.submitted).toEqual(Array(3).fill({ step: step.announce, id: '1' }))
    expect(budget.used).toBe(1)
  })

  it.each([
    { made: false, withdrawals: 0, why: 'what met a probe has nothing to withdraw' },
    { made: true, withdrawals: 1, why: 'nothing stays announced' },
  ])('of a line that ends before the answer withdraws what was announced and no more: $why', async (of) => {
    const answer = Promise.withResolvers<Outcome | null>()
    const submitted: Step[] = []
    const slow: Announcer = {
      submit: (kind) => {
        submitted.push(kind)
        return answer.promise
      },
    }
    notice = new LineNotice(
      () => slow,
      (id) => waiting.has(id),
      budget,
    )
    begin('1')
    await vi.advanceTimersByTimeAsync(100)
    end('1')
    answer.resolve(of.made ? outcome : null)
    await vi.advanceTimersByTimeAsync(100)
    expect(submitted).toEqual([step.announce, ...Array(of.withdrawals).fill(step.withdraw)])
    expect(budget.used).toBe(0)
  })

  it('announces again in a new session, and never over the budget', async () => {
    for (const id of ['1', '2', '3']) begin(id)
    await vi.advanceTimersByTimeAsync(100)
    expect(session?.submitted).toHaveLength(2)
    const old = session
    session = new Session()
    if (old !== null) notice.sessionLost(old)
    await vi.advanceTimersByTimeAsync(100)
    expect(session.submitted.map(({ id }) => id)).toEqual(['1', '2'])
    expect(budget.used).toBe(2)
  })
})
