import { tell } from '@x/testkit'
import { createTableLocker } from '../../src/index.ts'

/** Waits for a key, uses it, and never closes its locker. Arguments: url, a key that somebody else holds for a while. */
const [url = '', key = ''] = process.argv.slice(2)
const locker = createTableLocker({ connectionString: url, pollMs: 100 })
process.stdin.unref()
tell({ kind: 'waiting' })
const lock = await locker.acquire(key)
tell({ kind: 'held' })
await lock.release()
process.on('exit', () => tell({ kind: 'left' }))
