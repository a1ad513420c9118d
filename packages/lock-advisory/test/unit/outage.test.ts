import { expect, it } from 'vitest'
import { Outage } from '../../src/waiting/outage.ts'

it('lets everybody look again at one moment, later each time, and at once after a session was there', () => {
  let now = 0
  const outage = new Outage(
    () => now,
    () => 1,
  )
  expect(outage.pauseMs()).toBe(0)
  const pauses: number[] = []
  for (let round = 0; round < 9; round += 1) {
    for (let waiter = 0; waiter < 100; waiter += 1) outage.failed()
    pauses.push(outage.pauseMs())
    now += outage.pauseMs()
    expect(outage.pauseMs()).toBe(0)
  }
  expect(pauses).toEqual([100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000, 5_000])
  outage.failed()
  outage.end()
  expect(outage.pauseMs()).toBe(0)
  outage.failed()
  expect(outage.pauseMs()).toBe(100)
})
