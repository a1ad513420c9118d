import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { expect, it } from 'vitest'
import type { Lock } from '../../src/index.ts'
import { createMemoryLocker } from '../../src/memory/index.ts'

setFlagsFromString('--expose-gc')
const collectGarbage: () => void = runInNewContext('gc')

it('a held lock takes at most 1 KiB, and no timer', async () => {
  const locker = createMemoryLocker()
  const locks: Lock[] = []
  for (let warmUp = 0; warmUp < 100; warmUp += 1) await (await locker.acquire(`warm-up/${warmUp}`)).release()
  collectGarbage()
  const heapBefore = process.memoryUsage().heapUsed
  const timersBefore = process.getActiveResourcesInfo().filter((resource) => resource === 'Timeout').length
  for (let count = 0; count < 10_000; count += 1) locks.push(await locker.acquire(`held/${count}`))
  collectGarbage()
  const timers = process.getActiveResourcesInfo().filter((resource) => resource === 'Timeout').length
  expect((process.memoryUsage().heapUsed - heapBefore) / locks.length).toBeLessThan(1_024)
  expect(timers).toBe(timersBefore)
  await locker.close()
})
