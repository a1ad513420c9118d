import { connectionSource } from '@x/pg-session'
import { eventually, terminateBackend } from '@x/testkit'
import { useDatabase } from '@x/testkit/vitest'
import { expect, it } from 'vitest'
import { SharedMemoryBudget } from '../../src/memory-budget.ts'
import type { SessionLocks } from '../../src/session-locks.ts'
import { Sessions } from '../../src/sessions.ts'
import { Seats } from '../../src/waiting/seats.ts'

const database = useDatabase()

it('sessions are known for as long as they live, whichever way they end', async () => {
  const lost: SessionLocks[] = []
  const sessions = new Sessions({
    session: { source: connectionSource({ connectionString: database.url }, 'test'), applicationName: 'sessions' },
    gate: 1n,
    channel: 'sessions',
    schema: 'coordination',
    fencing: 'none',
    budget: new SharedMemoryBudget(10),
    policy: undefined,
    logger: undefined,
    idleMs: 50,
    isNeeded: () => false,
    onFreed: () => {},
    onLost: (session) => void lost.push(session),
  })
  const known = (): number => [...sessions.all()].length
  const seats = new Seats(() => sessions.open(), 2, 50)
  try {
    // A seat that is closed because nobody needs it.
    const seat = await seats.take()
    expect(known()).toBe(1)
    if (seat !== null) seats.giveBack(seat)
    await eventually(() => known() === 0)
    // The main session, for the same reason.
    await sessions.main()
    sessions.noteIdle()
    expect(known()).toBe(1)
    await eventually(() => known() === 0)
    expect(sessions.current).toBe(null)
    expect(lost).toEqual([])
    // One that the server ends.
    const pool = database.pool({ max: 1 })
    const doomed = await sessions.main()
    await terminateBackend(pool, doomed.pid)
    await eventually(() => known() === 0)
    expect(lost).toEqual([doomed])
  } finally {
    await Promise.all([sessions.close(), seats.close()])
  }
})
