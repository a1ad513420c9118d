import { createLeaderInput } from '@x/leader-input'
import { createAdvisoryLocker } from '@x/lock-advisory'
import { createTableLocker } from '@x/lock-table'
import { tell } from '@x/testkit'
import { Pool } from 'pg'

/** A replica of the takeover benchmark: tells of each batch that it has been given. */
const [url = '', kind = 'advisory', takeoverMs = '2000'] = process.argv.slice(2)
const pool = new Pool({ connectionString: url, max: 4 })
const locker =
  kind === 'advisory'
    ? createAdvisoryLocker({ connectionString: url, wait: 'server', fencing: 'none' })
    : createTableLocker({ pool, ttlMs: Number(takeoverMs) })
const input = createLeaderInput<{ f7_things: { id: number } }>({
  pool,
  locker,
  name: `bench-takeover-${kind}`,
  tables: ['f7_things'],
  takeoverMs: Number(takeoverMs),
})
await input.install()
tell({ kind: 'ready' })
await input.run(() => tell({ kind: 'handled' }))
