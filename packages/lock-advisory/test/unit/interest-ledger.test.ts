import { describe, expect, it } from 'vitest'
import type { Operation } from '../../src/batch.ts'
import { InterestLedger } from '../../src/interest-ledger.ts'
import { type Step, step } from '../../src/statements.ts'

const outcome = { token: null, sentAt: 0, answeredAtMs: 0, size: 1, woken: null }
const batch = (...steps: [Step, string][]): Operation[] => steps.map(([kind, id]) => ({ step: kind, id, outcome }))
const { announce, withdraw, tryExclusive } = step

describe('the ledger of interest', () => {
  it('has nothing to take back where every statement was answered', () => {
    const ledger = new InterestLedger()
    expect(ledger.answered(batch([announce, '1'], [tryExclusive, '1']))).toEqual([])
    expect(ledger.answered(batch([withdraw, '1']))).toEqual([])
  })

  it('takes back at once what a failed statement may have announced, and where its withdrawal may not have run', () => {
    const ledger = new InterestLedger()
    expect(ledger.failed(batch([announce, '1'], [tryExclusive, '2']))).toEqual(['1'])
    ledger.answered(batch([announce, '1']))
    expect(ledger.failed(batch([withdraw, '1']))).toEqual(['1'])
  })

  it('waits until nobody is interested any more, who may have announced it with the last withdrawal', () => {
    const ledger = new InterestLedger()
    ledger.answered(batch([announce, '1']))
    expect(ledger.failed(batch([announce, '1']))).toEqual([])
    expect(ledger.answered(batch([withdraw, '1'], [announce, '1']))).toEqual([])
    expect(ledger.answered(batch([withdraw, '1']))).toEqual(['1'])
    ledger.answered(batch([announce, '1']))
    expect(ledger.answered(batch([withdraw, '1']))).toEqual([])
  })

  it('does not count an announcement that met a probe', () => {
    const ledger = new InterestLedger()
    ledger.answered([{ step: announce, id: '1', outcome: null }])
    expect(ledger.failed(batch([announce, '1']))).toEqual(['1'])
  })
})
