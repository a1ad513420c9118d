import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type Turn, WaitLimit, WaitQueue } from '../../src/adapter/index.ts'
import type { LockMode } from '../../src/index.ts'

const settled = async (): Promise<void> => {
  for (let turn = 0; turn < 5; turn += 1) await Promise.resolve()
}

describe('WaitQueue', () => {
  it('gives a free key at once and forgets it when it is left', () => {
    const queue = new WaitQueue()
    const turn = queue.tryEnter('a', 'exclusive')
    expect(turn).not.toBeNull()
    expect(queue.tryEnter('a', 'exclusive')).toBeNull()
    expect(queue.tryEnter('a', 'shared')).toBeNull()
    turn?.leave()
    turn?.leave()
    expect([...queue.keys()]).toEqual([])
  })

  it('keeps a bounded number of empty lines, and forgets nobody who is in one', () => {
    const queue = new WaitQueue()
    const kept = queue.tryEnter('kept', 'exclusive')
    for (let round = 0; round < 3; round += 1) {
      for (let key = 0; key < 5_000; key += 1) queue.tryEnter(`key ${key}`, 'exclusive')?.leave()
      const turns = Array.from({ length: 3_000 }, (_, key) => queue.tryEnter(`key ${key}`, 'shared'))
      expect(turns.every((turn) => turn !== null)).toBe(true)
      expect([...queue.keys()]).toHaveLength(3_001)
      for (const turn of turns) turn?.leave()
      expect([...queue.keys()]).toEqual(['kept'])
    }
    expect(queue.tryEnter('kept', 'shared')).toBeNull()
    kept?.leave()
    expect(queue.active('kept')).toBe(0)
  })

  it('a second leave() does not end the turn of the next one', async () => {
    const queue = new WaitQueue()
    const first = await queue.enter('a', 'exclusive')
    const second = queue.enter('a', 'exclusive')
    first.leave()
    first.leave()
    await second
    expect(queue.active('a')).toBe(1)
    expect(queue.tryEnter('a', 'exclusive')).toBeNull()
  })

  it('a shared newcomer does not overtake an exclusive waiter', async () => {
    const queue = new WaitQueue()
    const reader = await queue.enter('a', 'shared')
    const writer = queue.enter('a', 'exclusive')
    expect(queue.tryEnter('a', 'shared')).toBeNull()
    const late = queue.enter('a', 'shared')
    reader.leave()
    expect(queue.active('a')).toBe(1)
    ;(await writer).leave()
    ;(await late).leave()
    expect([...queue.keys()]).toEqual([])
  })

  it('when the exclusive waiter in front gives up, the shared ones behind it join the shared holder', async () => {
    const queue = new WaitQueue()
    await queue.enter('a', 'shared')
    const controller = new AbortController()
    const reason = new Error('enough')
    const writer = queue.enter('a', 'exclusive', new WaitLimit({ key: 'a', signal: controller.signal }))
    const late = queue.enter('a', 'shared')
    controller.abort(reason)
    await expect(writer).rejects.toBe(reason)
    await late
    expect(queue.active('a')).toBe(2)
  })

  it('a limit that is over before the wait rejects and leaves no trace', async () => {
    const queue = new WaitQueue()
    const reason = new Error('too late')
    const limit = new WaitLimit({ key: 'a', signal: AbortSignal.abort(reason) })
    await expect(queue.enter('a', 'exclusive', limit)).rejects.toBe(reason)
    expect([...queue.keys()]).toEqual([])
  })

  it('rejectAll() rejects those who wait and leaves those whose turn it is', async () => {
    const queue = new WaitQueue()
    const turn = await queue.enter('a', 'exclusive')
    const waiting = queue.enter('a', 'exclusive')
    queue.rejectAll((key) => new Error(`closed ${key}`))
    await expect(waiting).rejects.toThrow('closed a')
    turn.leave()
    expect([...queue.keys()]).toEqual([])
  })

  it('under any sequence of entering, leaving and giving up: exclusion, order, and nobody is forgotten', async () => {
    type Step = { do: 'enter'; mode: LockMode } | { do: 'leave'; which: number } | { do: 'abort'; which: number }
    const step: fc.Arbitrary<Step> = fc.oneof(
      {
        weight: 3,
        arbitrary: fc.record({
          do: fc.constant('enter' as const),
          mode: fc.constantFrom<LockMode>('exclusive', 'shared'),
        }),
      },
      { weight: 3, arbitrary: fc.record({ do: fc.constant('leave' as const), which: fc.nat() }) },
      { weight: 1, arbitrary: fc.record({ do: fc.constant('abort' as const), which: fc.nat() }) },
    )
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 60 }), async (steps) => {
        const queue = new WaitQueue()
        const inside: { mode: LockMode; turn: Turn }[] = []
        let waiting: { place: number; abort: () => void }[] = []
        const served: number[] = []
        let place = 0
        for (const now of steps) {
          if (now.do === 'enter') {
            place += 1
            const mine = place
            const controller = new AbortController()
            const me = { place: mine, abort: () => controller.abort() }
            waiting.push(me)
            const { mode } = now
            queue.enter('a', mode, new WaitLimit({ key: 'a', signal: controller.signal })).then(
              (turn) => {
                waiting = waiting.filter((other) => other !== me)
                served.push(mine)
                inside.push({ mode, turn })
              },
              () => {
                waiting = waiting.filter((other) => other !== me)
              },
            )
          } else if (now.do === 'leave' && inside.length > 0) {
            inside.splice(now.which % inside.length, 1)[0]?.turn.leave()
          } else if (now.do === 'abort' && waiting.length > 0) {
            waiting[now.which % waiting.length]?.abort()
          }
          await settled()
          const exclusive = inside.filter(({ mode }) => mode === 'exclusive').length
          expect(exclusive === 0 || inside.length === 1).toBe(true)
          expect(served).toEqual(served.toSorted((one, other) => one - other))
          expect(queue.waiting('a')).toBe(waiting.length)
          expect(queue.active('a')).toBe(inside.length)
          // Whoever waits has somebody before him who holds the key.
          if (waiting.length > 0) expect(inside.length).toBeGreaterThan(0)
        }
        while (inside.length > 0) {
          inside.pop()?.turn.leave()
          await settled()
        }
        expect(waiting).toEqual([])
        expect([...queue.keys()]).toEqual([])
      }),
      { numRuns: 300 },
    )
  })
})
