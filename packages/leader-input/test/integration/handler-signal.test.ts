import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { eventually } from '@x/testkit'
import { useDatabase } from '@x/testkit/vitest'
import { expect, it } from 'vitest'
import { shopInput, shopTemplate } from '../support/shop.ts'

const database = useDatabase({ template: shopTemplate })

setFlagsFromString('--expose-gc')
const collectGarbage: () => void = runInNewContext('gc')

it('is of its batch alone: what a handler leaves on it is not kept for as long as this replica leads', async () => {
  const pool = database.pool()
  await using input = shopInput(pool)
  await input.install()
  const signals: WeakRef<AbortSignal>[] = []
  let aborted = 0
  const stop = new AbortController()
  const running = input.run(
    async (_, { signal }) => {
      signals.push(new WeakRef(signal))
      signal.addEventListener('abort', () => {
        aborted += 1
      })
      // The last one learns that the term is over.
      if (signals.length === 3) await new Promise((resolve) => signal.addEventListener('abort', resolve))
    },
    { signal: stop.signal },
  )
  for (const batch of [1, 2, 3]) {
    await pool.query(`INSERT INTO orders VALUES ($1, 'c', 1)`, [batch])
    await eventually(() => signals.length === batch)
  }
  await eventually(() => {
    collectGarbage()
    return signals[0]?.deref() === undefined
  })
  stop.abort()
  await running
  expect(aborted).toBe(1)
})
