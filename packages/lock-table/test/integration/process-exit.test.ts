import { eventually, spawnNode } from '@x/testkit'
import { useDatabase } from '@x/testkit/vitest'
import { expect, test } from 'vitest'
import { z } from 'zod'
import { createTableLocker } from '../../src/index.ts'
import { lockTable } from '../support/template.ts'

const database = useDatabase({ template: lockTable })

test('a process that never closes its locker runs while it waits, and ends when it has no use for it any more', async () => {
  await using locker = createTableLocker({ pool: database.pool() })
  const holder = await locker.acquire('taken')
  await using child = await spawnNode(new URL('../support/forgetful.ts', import.meta.url), {
    messages: z.object({ kind: z.string() }),
    args: [database.url, 'taken'],
  })
  await eventually(async () => (await locker.status('taken')).waiters === 1)
  // Until it listens: that connection is the one which it would be left with.
  await eventually(async () => {
    const { rows } = await database.pool().query('SELECT FROM coordination.lock_sessions WHERE channel IS NOT NULL')
    return rows.length > 0
  })
  expect(child.isRunning).toBe(true)
  await holder.release()
  expect(await child.exited).toMatchObject({ code: 0 })
  expect(child.messages.map(({ kind }) => kind)).toEqual(['waiting', 'held', 'left'])
})
