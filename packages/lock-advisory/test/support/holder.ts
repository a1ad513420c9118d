import { setImmediate as nextTurn } from 'node:timers/promises'
import { tell } from '@x/testkit'
import { createAdvisoryLocker } from '../../src/index.ts'

/** Holds a key and tells, turn by turn of its event loop, when its belief changes. Arguments: url, key, detectMs. */
const [url = '', key = '', detectMs = '1000'] = process.argv.slice(2)
const locker = createAdvisoryLocker({
  connectionString: url,
  applicationName: `holder of ${key}`,
  detectMs: Number(detectMs),
})
const lock = await locker.acquire(key)
const { signal } = lock
tell({ kind: 'held', token: lock.fencingToken === null ? null : String(lock.fencingToken) })

let before = performance.now()
for (;;) {
  // SIGSTOP may come between any two of these lines: what is asked after a pause was noticed must know of it, and so must
  // what is asked at its end.
  const now = performance.now()
  const noticed = now - before > Number(detectMs)
  const held = lock.isHeld()
  const pausedMs = Math.round(noticed ? now - before : performance.now() - now)
  if (noticed || (!held && pausedMs > Number(detectMs))) tell({ kind: 'woke', held, aborted: signal.aborted, pausedMs })
  if (!held) break
  before = now
  await nextTurn()
}
tell({
  kind: 'lost',
  held: lock.isHeld(),
  aborted: signal.aborted,
  reason: String(Reflect.get(signal.reason, 'reason')),
})
await locker.close()
