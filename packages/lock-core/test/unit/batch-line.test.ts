import { setImmediate as endOfTurn } from 'node:timers/promises'
import { describe, expect, it } from 'vitest'
import { createBatchLine } from '../../src/adapter/index.ts'

interface Operation {
  readonly id: number
  done: boolean
}

const operation = (id: number): Operation => ({ id, done: false })

describe('createBatchLine', () => {
  it('sends together what is joined together, and what comes meanwhile with the next one', async () => {
    const batches: number[][] = []
    const gates: PromiseWithResolvers<void>[] = []
    const line = createBatchLine({
      run: async (batch: readonly Operation[]) => {
        batches.push(batch.map(({ id }) => id))
        const gate = Promise.withResolvers<void>()
        gates.push(gate)
        await gate.promise
        for (const each of batch) each.done = true
      },
    })
    expect(line.isIdle).toBe(true)
    const [one, two, three] = [operation(1), operation(2), operation(3)]
    const first = Promise.all([line.join(one), line.join(two)])
    await endOfTurn()
    expect(batches).toEqual([[1, 2]])
    const second = line.join(three)
    expect(line.isIdle).toBe(false)
    gates[0]?.resolve()
    await first
    expect([one.done, two.done, three.done]).toEqual([true, true, false])
    await endOfTurn()
    gates[1]?.resolve()
    await second
    expect(batches).toEqual([[1, 2], [3]])
    await line.idle()
    expect(line.isIdle).toBe(true)
  })

  it('what callers ask for when they are answered goes out together with the next statement', async () => {
    const batches: number[][] = []
    const line = createBatchLine({
      run: async (batch: readonly Operation[]) => void batches.push(batch.map(({ id }) => id)),
    })
    await Promise.all(
      [1, 2, 3].map(async (id) => {
        await line.join(operation(id))
        // As deep as callers of callers lie.
        for (let promises = 0; promises < 5 * id; promises += 1) await Promise.resolve()
        await line.join(operation(id + 10))
      }),
    )
    expect(batches).toEqual([
      [1, 2, 3],
      [11, 12, 13],
    ])
  })

  it('a failure is that of its own statement', async () => {
    const line = createBatchLine({
      maxBatch: 2,
      run: async (batch: readonly Operation[]) => {
        if (batch.some(({ id }) => id === 3)) throw new Error('refused')
      },
    })
    const outcomes = await Promise.allSettled([1, 2, 3, 4, 5].map((id) => line.join(operation(id))))
    expect(outcomes.map(({ status }) => status)).toEqual([
      'fulfilled',
      'fulfilled',
      'rejected',
      'rejected',
      'fulfilled',
    ])
    await line.idle()
  })
})
