import { eventually, Hopeless } from '@x/testkit'
import { expect, it } from 'vitest'

it('resolves to what the condition gave at last', async () => {
  let looks = 0
  await expect(eventually(() => (looks++ < 3 ? null : 'there'))).resolves.toBe('there')
})

it('says what it waited for and why it was not so', async () => {
  const never = eventually(
    () => {
      throw new Error('still 2')
    },
    { deadlineMs: 30, what: 'one row' },
  )
  await expect(never).rejects.toThrow('waited 30 ms for one row; last: still 2')
})

it('gives up at once when there is no hope', async () => {
  const started = performance.now()
  await expect(
    eventually(() => {
      throw new Hopeless('gone')
    }),
  ).rejects.toThrow('gone')
  expect(performance.now() - started).toBeLessThan(4_000)
})
