import { tell } from '@x/testkit'
import { createAdvisoryLocker } from '../../src/index.ts'

/** Uses a locker and never closes it. Arguments: url, way to wait, a key that somebody else holds for a while. */
const [url = '', wait = 'notify', key = ''] = process.argv.slice(2)
const locker = createAdvisoryLocker({
  connectionString: url,
  applicationName: `forgetful ${wait}`,
  wait: wait === 'server' ? 'server' : 'notify',
  idleMs: 600_000,
  pollMs: 50,
})
process.stdin.unref()
await (await locker.acquire('free')).release()
tell({ kind: 'waiting' })
const lock = await locker.acquire(key)
tell({ kind: 'held' })
// Nothing but the lock keeps the process running meanwhile.
setTimeout(() => void lock.release(), 300).unref()
process.on('exit', () => tell({ kind: lock.isHeld() ? 'left with the lock' : 'left' }))
