import { lockId } from '@x/lock-core'
import { startPrivatePostgres } from '@x/testkit'
import { Client } from 'pg'
import { expect, it } from 'vitest'
import { createAdvisoryLocker } from '../../src/index.ts'

it('terminateHolder() does not wait for sessions that cannot hear of their end at the cost of our own', async () => {
  await using server = await startPrivatePostgres()
  await using locker = createAdvisoryLocker({ connectionString: server.url, fencing: 'none' })
  await using idle = createAdvisoryLocker({ connectionString: server.url, fencing: 'none', idleMs: 50 })
  const spared = await locker.acquire('spared')
  // Three: the server would wait two seconds for each, which is longer than our session may be silent.
  const deaf: number[] = []
  for (let count = 0; count < 3; count += 1) {
    const client = new Client({ connectionString: server.url })
    client.on('error', () => {})
    await client.connect()
    const { rows } = await client.query<{ pid: number }>(
      'SELECT pg_backend_pid() AS pid, pg_advisory_lock_shared($1::int8)',
      [String(lockId(0, 'report'))],
    )
    for (const { pid } of rows) deaf.push(pid)
  }
  expect(deaf).toHaveLength(3)
  for (const pid of deaf) process.kill(pid, 'SIGSTOP')
  try {
    // The other one closes its session, in which nothing is held, in the middle of it.
    const ended = idle.ping().then(() => idle.terminateHolder('report'))
    expect(await Promise.all([locker.terminateHolder('report'), ended])).toEqual([true, true])
    expect(spared.isHeld()).toBe(true)
    expect((await locker.status('report')).holders.map(({ pid }) => pid)).toEqual(deaf.toSorted((a, b) => a - b))
  } finally {
    for (const pid of deaf) process.kill(pid, 'SIGCONT')
  }
  await (await locker.acquire('report', { waitTimeoutMs: 20_000 })).release()
  await spared.release()
})
