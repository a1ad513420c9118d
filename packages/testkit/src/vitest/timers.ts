import { createRequire, syncBuiltinESMExports } from 'node:module'

/** Where each timer was set that may still fire, for the message when it is there after the test. */
const live = new Map<object, string>()
let watching = false

/** Our published sources; timers of the test itself, of vitest and of drivers are not ours to judge. */
const ours = /\/packages\/(?!testkit\/)[^/]+\/src\//

const remember = (timer: object): void => {
  const line = new Error('timer').stack?.split('\n').find((candidate) => ours.test(candidate))
  if (line !== undefined) live.set(timer, line.trim().replace(/^at /, ''))
}

const followed = <F extends object>(set: F): F =>
  new Proxy(set, {
    apply(target, self, args) {
      const timer: unknown = Reflect.apply(target as never, self, args)
      if (typeof timer === 'object' && timer !== null) remember(timer)
      return timer
    },
  })

/**
 * Follows timers that our packages set, by whichever of Node's three ways. `process.getActiveResourcesInfo()` would
 * not do: it leaves out timers that are unref'd, counts those of vitest, which come and go, and names no place.
 */
export const watchTimers = (): void => {
  if (watching) return
  watching = true
  const require = createRequire(import.meta.url)
  const timers: typeof import('node:timers') = require('node:timers')
  const promises: typeof import('node:timers/promises') = require('node:timers/promises')
  globalThis.setTimeout = followed(globalThis.setTimeout)
  globalThis.setInterval = followed(globalThis.setInterval)
  timers.setTimeout = followed(timers.setTimeout)
  timers.setInterval = followed(timers.setInterval)
  promises.setTimeout = new Proxy(promises.setTimeout, {
    apply(set, self, args) {
      const waiting: Promise<unknown> = Reflect.apply(set, self, args)
      remember(waiting)
      const settled = (): void => void live.delete(waiting)
      waiting.then(settled, settled)
      return waiting
    },
  })
  syncBuiltinESMExports()
}

/** The timers that still can fire, by where they were set. */
export const liveTimers = (): string[] => {
  for (const timer of [...live.keys()]) {
    // Node marks a timer that was cleared or has fired for the last time; there is no public way to ask.
    if (Reflect.get(timer, '_destroyed') === true) live.delete(timer)
  }
  return [...live.values()]
}

/** Forgets what a failed test left, so that the next test is not blamed. */
export const forgetTimers = (): void => live.clear()
