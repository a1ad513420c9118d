import { WaitLimit } from '@x/lock-core/adapter'
import { expect, it } from 'vitest'
import { Alarm } from '../../src/waiting/alarm.ts'

it('sleeps for longer than a timer of Node.js can be set to', async () => {
  using limit = new WaitLimit({ key: 'key' })
  using alarm = new Alarm(limit)
  // The longest pollMs with its jitter; a timer that overflows fires at once.
  const slept = alarm.sleep(2_147_483_647 * 1.1)
  setTimeout(alarm.ring, 50)
  expect(await slept).toBe(true)
})
