import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { decodeBatch, encodeBatch, type Operation, type Outcome, splitRepeatedTries } from '../../src/batch.ts'
import { lockStatements, type Step, step } from '../../src/statements.ts'

const statements = lockStatements(1n, 'channel', null)
const times = { sentAt: 1, answeredAtMs: 2 }
const steps: readonly Step[] = Object.values(step)
const operations = fc.array(
  fc.record({
    step: fc.constantFrom(...steps),
    id: fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }).map(String),
    outcome: fc.constant<Outcome | null>(null),
  }),
  { minLength: 1, maxLength: 20 },
)

describe('encodeBatch', () => {
  it('picks the lean statements for the two kinds that a single caller pays for', () => {
    const of = (...kinds: Step[]): string =>
      encodeBatch(
        kinds.map((kind, id) => ({ step: kind, id: String(id), outcome: null })),
        statements,
      ).statement.name
    expect(of(step.tryExclusive, step.tryExclusive)).toBe('advisory_acquire')
    expect(of(step.tryExclusive)).toBe('advisory_acquire_one')
    expect(of(step.unlockExclusive, step.unlockExclusive)).toBe('advisory_release')
    expect(of(step.unlockExclusive)).toBe('advisory_release_one')
    expect(of(step.tryShared)).toBe('advisory_exchange')
    expect(of(step.tryExclusive, step.unlockExclusive)).toBe('advisory_exchange')
  })

  it('keeps order and number of the operations', () => {
    fc.assert(
      fc.property(operations, (batch) => {
        const { statement, values } = encodeBatch(batch, statements)
        const [ids, ops] = values
        const listed = batch.map(({ id }) => id).join(',')
        expect(ids).toBe(statement.name.endsWith('_one') ? listed : `{${listed}}`)
        if (ops !== undefined) expect(ops).toBe(`{${batch.map((operation) => operation.step).join(',')}}`)
      }),
    )
  })
})

describe('decodeBatch', () => {
  it('gives each operation its own answer', () => {
    fc.assert(
      fc.property(operations, fc.infiniteStream(fc.boolean()), (batch, answers) => {
        const oks = batch.map(() => answers.next().value === true)
        const row = [`{${oks.map((ok) => (ok ? 't' : 'f')).join(',')}}`, null, null]
        decodeBatch(batch, statements.exchange, statements, row, times)
        expect(batch.map(({ outcome }) => outcome !== null)).toEqual(oks)
      }),
    )
  })

  it('reads the ids that were woken and those that were not held', () => {
    const batch: readonly Operation[] = ['1', '-2', '3'].map((id) => ({
      step: step.unlockExclusive,
      id,
      outcome: null,
    }))
    decodeBatch(batch, statements.release, statements, ['{3}', '{1,-2}'], times)
    expect(batch.map(({ outcome }) => outcome !== null)).toEqual([true, true, false])
    expect(batch[0]?.outcome?.woken).toEqual(new Set(['1', '-2']))
  })

  it('reads the same of one that was released alone', () => {
    const alone = (): Operation => ({ step: step.unlockExclusive, id: '1', outcome: null })
    const [held, strange] = [alone(), alone()]
    decodeBatch([held], statements.releaseOne, statements, [null, '{1}'], times)
    expect(held.outcome?.woken).toEqual(new Set(['1']))
    decodeBatch([strange], statements.releaseOne, statements, ['{1}', null], times)
    expect(strange.outcome).toBe(null)
  })

  it('does not guess when an answer is missing', () => {
    const batch: readonly Operation[] = [{ step: step.tryExclusive, id: '1', outcome: null }]
    for (const row of [undefined, [null, null], ['{}', null], ['{t,t}', null]]) {
      expect(() => decodeBatch(batch, statements.acquire, statements, row, times)).toThrow(TypeError)
    }
  })
})

describe('splitRepeatedTries', () => {
  it('loses nothing, keeps the order, and never tries one id twice in a part', () => {
    fc.assert(
      fc.property(operations, (batch) => {
        const parts = splitRepeatedTries(batch)
        expect(parts.flat()).toEqual(batch)
        for (const part of parts) {
          const tried = part.filter((operation) => operation.step === step.tryShared).map(({ id }) => id)
          expect(new Set(tried).size).toBe(tried.length)
        }
      }),
    )
  })
})
