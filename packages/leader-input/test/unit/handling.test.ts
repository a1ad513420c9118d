import fc from 'fast-check'
import { expect, it } from 'vitest'
import { keyIdentity, type LoggedChange } from '../../src/event.ts'
import { BlockedKeys } from '../../src/handling/blocked-keys.ts'
import { afterFailure, afterSuccess, firstAttempt, longestRetryMs, retryDelayMs } from '../../src/handling/retry.ts'
import { probeRest } from '../../src/log/probe.ts'

it('finds every poison event by splitting, hands over all others, and gives each at least its attempts', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 300 }),
      fc.array(fc.nat(299), { maxLength: 5 }),
      fc.integer({ min: 1, max: 6 }),
      (size, poison, maxAttempts) => {
        const bad = new Set(poison.filter((n) => n < size))
        let pending = Array.from({ length: size }, (_, n) => n)
        const handled: number[] = []
        const parked: number[] = []
        const tries = new Map<number, number>()
        let attempt = firstAttempt(pending.length)
        for (let steps = 0; pending.length > 0; steps++) {
          if (steps > 5_000) throw new Error('does not end')
          const batch = pending.slice(0, attempt.size)
          for (const n of batch) tries.set(n, (tries.get(n) ?? 0) + 1)
          if (!batch.some((n) => bad.has(n))) {
            handled.push(...batch)
            pending = pending.slice(batch.length)
            attempt = afterSuccess(attempt, pending.length)
            continue
          }
          const next = afterFailure(attempt, maxAttempts, () => 0.5)
          if (next.kind === 'again') {
            attempt = next.attempt
            continue
          }
          const [first] = pending
          if (first !== undefined) parked.push(first)
          pending = pending.slice(1)
          attempt = firstAttempt(pending.length)
        }
        expect(parked).toEqual([...bad].sort((a, b) => a - b))
        expect(handled.length + parked.length).toBe(size)
        for (const n of parked) expect(tries.get(n)).toBeGreaterThanOrEqual(maxAttempts)
      },
    ),
  )
})

it('waits longer after each failure, with jitter, up to the longest wait', () => {
  expect(retryDelayMs(1, () => 0)).toBe(25)
  expect(retryDelayMs(1, () => 1)).toBe(50)
  expect(retryDelayMs(4, () => 1)).toBe(400)
  expect(retryDelayMs(1_000, () => 1)).toBe(longestRetryMs)
})

const change = (key: string | null, oldKey: string | null = null, operation: LoggedChange['operation'] = 'update') => ({
  location: 'public.t',
  operation,
  key,
  oldKey,
})

it('holds back both keys of a change of the key, a truncate, and what comes behind it', () => {
  const blocked = new BlockedKeys()
  blocked.block(change('{"id": 1}'))
  expect(blocked.blocks(change('{"id": 2}'))).toBe(false)
  expect(blocked.blocks({ ...change('{"id": 1}'), location: 'public.other' })).toBe(false)
  expect(blocked.blocks(change('{"id": 2}', '{"id": 1}'))).toBe(true)
  blocked.block(change('{"id": 2}', '{"id": 1}'))
  expect(blocked.blocks(change('{"id": 2}'))).toBe(true)
  expect(blocked.blocks(change('{"id": 3}'))).toBe(false)
  expect(blocked.blocks(change(null, null, 'truncate'))).toBe(true)
  blocked.block(change(null, null, 'truncate'))
  expect(blocked.blocks(change('{"id": 3}'))).toBe(true)
})

it('tells keys apart exactly, and takes 1.0 and 1.00 for one', () => {
  expect(keyIdentity('{"id": 9007199254740993}')).toBe('9007199254740993')
  expect(keyIdentity('{"id": 9007199254740992}')).not.toBe(keyIdentity('{"id": 9007199254740993}'))
  expect(keyIdentity('{"n": 1.0}')).toBe(keyIdentity('{"n": 1.00}'))
  expect(keyIdentity('{"n": 1.50}')).toBe('1.5')
  expect(keyIdentity('{"a": "x", "b": 1}')).toBe('["x","1"]')
  expect(keyIdentity('{"a": "say \\"1.0\\", or 2"}')).toBe('say "1.0", or 2')
  expect(keyIdentity('{"id": null}')).toBeNull()
  expect(keyIdentity(null)).toBeNull()
})

it('rests only when the sequence stands still and every transaction that may have drawn a number is over', () => {
  let now = 0
  const rest = probeRest(() => now)
  const seen = (lastNumber: bigint, xmin: bigint, found = false) =>
    rest.seen({ lastNumber, snapshot: { xmin, xmax: 100n, xip: [] } }, found)
  seen(5n, 10n, true)
  expect(rest.delayMs).toBe(5)
  expect(rest.wantsMark).toBe(true)
  rest.mark(50n, 5n)
  // A transaction from before the mark is still open: it may have drawn a number.
  seen(5n, 49n)
  expect(rest.delayMs).toBe(5)
  now = 2_000
  seen(5n, 49n)
  expect(rest.delayMs).toBe(20)
  seen(5n, 51n)
  seen(5n, 51n)
  for (let i = 0; i < 10; i++) seen(5n, 51n)
  expect(rest.delayMs).toBe(250)
  // Something was drawn: nothing is known any more, also of a mark that was asked for before.
  seen(6n, 51n)
  expect(rest.delayMs).toBe(5)
  rest.mark(60n, 5n)
  expect(rest.wantsMark).toBe(true)
})
