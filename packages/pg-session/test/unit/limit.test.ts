import { getEventListeners } from 'node:events'
import { expect, it } from 'vitest'
import { Limit } from '../../src/limit.ts'

const late = (): Error => new Error('late')
const timers = (): number => process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length

it('what comes after the limit is told so, and is nobody’s', async () => {
  const controller = new AbortController()
  const limit = new Limit({ what: 'test', timeoutMs: 60_000, signal: controller.signal })
  let bring = (_: string): boolean => true
  const waiting = limit.wait<string>((resolve) => {
    bring = resolve
  }, late)
  expect(bring('in time')).toBe(true)
  expect(await waiting).toBe('in time')
  const forsaken = limit.wait<string>((resolve) => {
    bring = resolve
  }, late)
  controller.abort(new Error('enough'))
  expect(bring('too late')).toBe(false)
  await expect(forsaken).rejects.toThrow('enough')
  let started = false
  const refused = limit.wait<void>(() => {
    started = true
  }, late)
  await expect(refused).rejects.toThrow('enough')
  expect(started).toBe(false)
  limit.end()
})

it('one timer and one listener do for all steps, and go with the end', async () => {
  const { signal } = new AbortController()
  const before = timers()
  const limit = new Limit({ what: 'test', timeoutMs: 60_000, signal })
  const steps = Array.from({ length: 3 }, () => limit.wait<number>((resolve) => setImmediate(resolve, 1), late))
  expect(timers()).toBe(before + 1)
  expect(getEventListeners(signal, 'abort')).toHaveLength(1)
  expect(await Promise.all(steps)).toEqual([1, 1, 1])
  const open = timers()
  limit.end()
  expect(timers()).toBe(open - 1)
  expect(getEventListeners(signal, 'abort')).toEqual([])
})

it('every step that is under way is late at once, and so is the next', async () => {
  const limit = new Limit({ what: 'test', timeoutMs: 20 })
  const never = (): Promise<void> => limit.wait<void>(() => {}, late)
  const settled = await Promise.allSettled([never(), never()])
  expect(settled.map(({ status }) => status)).toEqual(['rejected', 'rejected'])
  await expect(never()).rejects.toThrow('late')
  limit.end()
})
