/** Where a timer was set, for the message when it is still there after the test. */
const live = new Map<object, string>()
let watching = false

/** Our published sources; timers of the test itself, of vitest and of drivers are not ours to judge. */
const ours = /\/packages\/(?!testkit\/)[^/]+\/src\//

const origin = (): string | null => {
  const lines = new Error('timer').stack?.split('\n').slice(3) ?? []
  const line = lines.find((candidate) => ours.test(candidate))
  return line === undefined ? null : line.trim().replace(/^at /, '')
}

const remember = <T>(timer: T): T => {
  const where = origin()
  if (where !== null && typeof timer === 'object' && timer !== null) live.set(timer, where)
  return timer
}

/**
 * Follows timers set by our packages through the global functions. `process.getActiveResourcesInfo()` would miss
 * those that are unref'd, and an unref'd interval that outlives `close()` is a leak all the same.
 */
export const watchTimers = (): void => {
  if (watching) return
  watching = true
  const { setTimeout: plainTimeout, setInterval: plainInterval } = globalThis
  const timeout = (...args: Parameters<typeof plainTimeout>): NodeJS.Timeout => remember(plainTimeout(...args))
  const interval = (...args: Parameters<typeof plainInterval>): NodeJS.Timeout => remember(plainInterval(...args))
  globalThis.setTimeout = Object.assign(timeout, plainTimeout)
  globalThis.setInterval = Object.assign(interval, plainInterval)
}

/** Timers of ours that still can fire, by where they were set. */
export const liveTimers = (): string[] => {
  for (const timer of [...live.keys()]) {
    // Node marks a timer that was cleared or has fired for the last time; there is no public way to ask.
    if (Reflect.get(timer, '_destroyed') === true) live.delete(timer)
  }
  return [...live.values()]
}

/** Timers that hold the event loop, whoever set them. */
export const holdingTimers = (): number =>
  process.getActiveResourcesInfo().filter((resource) => resource === 'Timeout').length

/** Forgets what a failed test left, so that the next test is not blamed. */
export const forgetTimers = (): void => live.clear()
