import { createAdvisoryLocker } from '@x/lock-advisory'
import { tell } from '@x/testkit'

/** Holds a key until it is killed. */
const [url = '', key = ''] = process.argv.slice(2)
await createAdvisoryLocker({ connectionString: url, fencing: 'none' }).acquire(key)
tell({ kind: 'held' })
