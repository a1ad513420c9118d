import { setImmediate as endOfTurn } from 'node:timers/promises'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { createCoalescer } from '../../src/adapter/index.ts'

/** Statements that end when the test says so. */
function statements<Op>(): {
  batches: Op[][]
  run(batch: readonly Op[]): Promise<readonly Op[]>
  finish(error?: unknown): Promise<void>
} {
  const batches: Op[][] = []
  const open: PromiseWithResolvers<readonly Op[]>[] = []
  return {
    batches,
    run(batch) {
      batches.push([...batch])
      const statement = Promise.withResolvers<readonly Op[]>()
      open.push(statement)
      return statement.promise
    },
    async finish(error) {
      const statement = open.shift()
      if (error === undefined) statement?.resolve(batches[batches.length - open.length - 1] ?? [])
      else statement?.reject(error)
      await endOfTurn()
    },
  }
}

describe('createCoalescer', () => {
  it('sends one operation alone within the same turn of the event loop', async () => {
    const store = statements<string>()
    const coalescer = createCoalescer({ run: store.run })
    const result = coalescer.submit('a')
    await endOfTurn()
    expect(store.batches).toEqual([['a']])
    await store.finish()
    expect(await result).toBe('a')
  })

  it('sends what is issued while a statement is in flight as one statement', async () => {
    const store = statements<string>()
    const coalescer = createCoalescer({ run: store.run })
    const results = [coalescer.submit('a')]
    await endOfTurn()
    results.push(coalescer.submit('b'), coalescer.submit('c'))
    await endOfTurn()
    expect(store.batches).toEqual([['a']])
    expect(coalescer.queued).toBe(2)
    await store.finish()
    expect(store.batches).toEqual([['a'], ['b', 'c']])
    await store.finish()
    expect(await Promise.all(results)).toEqual(['a', 'b', 'c'])
    await coalescer.idle()
  })

  it('a failed statement rejects its own operations and no others', async () => {
    const store = statements<string>()
    const coalescer = createCoalescer({ run: store.run })
    const first = coalescer.submit('a')
    await endOfTurn()
    const second = coalescer.submit('b')
    const failed = expect(first).rejects.toThrow('gone')
    await store.finish(new Error('gone'))
    await failed
    await store.finish()
    expect(await second).toBe('b')
  })

  it('a run() that throws at once, or answers with too few results, rejects instead of hanging', async () => {
    const throwing = createCoalescer<string, string>({
      run() {
        throw new Error('at once')
      },
    })
    await expect(throwing.submit('a')).rejects.toThrow('at once')
    await expect(throwing.submit('b')).rejects.toThrow('at once')
    const short = createCoalescer<string, string>({ run: async () => [] })
    await expect(short.submit('a')).rejects.toThrow('1 operations got 0 results')
  })

  it('never puts two operations of one identity into one statement, and keeps their order', async () => {
    const store = statements<string>()
    const coalescer = createCoalescer({ run: store.run, identityOf: (operation) => operation.charAt(0) })
    const results = ['a1', 'b1', 'a2', 'a3', 'c1'].map((operation) => coalescer.submit(operation))
    await endOfTurn()
    for (let statement = 0; statement < 3; statement += 1) await store.finish()
    expect(store.batches).toEqual([['a1', 'b1', 'c1'], ['a2'], ['a3']])
    expect(await Promise.all(results)).toEqual(['a1', 'b1', 'a2', 'a3', 'c1'])
  })

  it('with any arrivals: each operation is sent once, in order, in batches within the limit', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.record({ burst: fc.integer({ min: 1, max: 8 }), turns: fc.nat({ max: 4 }) }), { maxLength: 12 }),
        fc.integer({ min: 1, max: 5 }),
        async (bursts, maxBatch) => {
          const batches: number[][] = []
          let running = 0
          const coalescer = createCoalescer<number, number>({
            maxBatch,
            async run(batch) {
              running += 1
              expect(running).toBe(1)
              batches.push([...batch])
              await Promise.resolve()
              running -= 1
              return batch
            },
          })
          let next = 0
          const results: Promise<number>[] = []
          for (const { burst, turns } of bursts) {
            for (let count = 0; count < burst; count += 1) results.push(coalescer.submit(next++))
            for (let turn = 0; turn < turns; turn += 1) await endOfTurn()
          }
          expect(await Promise.all(results)).toEqual(Array.from({ length: next }, (_, index) => index))
          await coalescer.idle()
          expect(batches.flat()).toEqual(Array.from({ length: next }, (_, index) => index))
          expect(batches.every((batch) => batch.length >= 1 && batch.length <= maxBatch)).toBe(true)
        },
      ),
    )
  })
})
