import { spawnNode } from '@x/testkit'
import { useDatabase } from '@x/testkit/vitest'
import { expect, it } from 'vitest'
import { z } from 'zod'
import { useLockers } from '../support/lockers.ts'

const database = useDatabase()
const createLocker = useLockers(database)

it.each(['notify', 'server'] as const)(
  'a process that never closes its locker runs while it waits and holds, and ends afterwards (%s)',
  async (wait) => {
    const holder = await createLocker().acquire('taken')
    await using child = await spawnNode(new URL('../support/forgetful.ts', import.meta.url), {
      messages: z.object({ kind: z.string() }),
      args: [database.url, wait, 'taken'],
    })
    await child.message(({ kind }) => kind === 'waiting')
    // Long enough for a connection that nobody uses to come to rest.
    await new Promise((resolve) => setTimeout(resolve, 300))
    expect(child.isRunning).toBe(true)
    await holder.release()
    await child.message(({ kind }) => kind === 'held')
    // Idle connections are kept for ten minutes: it is not them that the process waits for.
    expect(await child.exited).toMatchObject({ code: 0 })
    expect(child.messages.map(({ kind }) => kind)).toEqual(['waiting', 'held', 'left'])
  },
)
