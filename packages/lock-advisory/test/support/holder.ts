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
  // The first line that runs after the process was stopped.
  const held = lock.isHeld()
  const now = performance.now()
  if (now - before > 500) tell({ kind: 'woke', held, aborted: signal.aborted, pausedMs: Math.round(now - before) })
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
