import { createTableLocker } from '@x/lock-table'
import { Pool } from 'pg'

/**
 * Waiters of one process, over and over on one key while a round goes on: tells when each was granted the lock and when it
 * began to release it.
 */
const [url = '', key = '', waiters = '1'] = process.argv.slice(2)
const pool = new Pool({ connectionString: url, max: 4 })
const locker = createTableLocker({ pool, ttlMs: 60_000 })
let events: [kind: 'granted' | 'releasing', at: string][] = []
let running = true
let round = Promise.withResolvers<void>()
let going = false
process.on('disconnect', () => process.exit(0))
process.on('message', (message) => {
  if (message === 'go') {
    events = []
    going = true
    round.resolve()
  } else if (message === 'report') {
    process.send?.(events)
    events = []
    going = false
    round = Promise.withResolvers()
  } else if (message === 'stop') {
    running = false
    round.resolve()
  }
})
const now = (): string => String(process.hrtime.bigint())

process.send?.('ready')
await Promise.all(
  Array.from({ length: Number(waiters) }, async () => {
    while (running) {
      if (!going) {
        await round.promise
        continue
      }
      const lock = await locker.acquire(key)
      events.push(['granted', now()])
      events.push(['releasing', now()])
      await lock.release()
    }
  }),
)
await locker.close()
await pool.end()
process.disconnect()
