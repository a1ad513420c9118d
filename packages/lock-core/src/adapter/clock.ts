import { uptime } from 'node:os'
import { performance } from 'node:perf_hooks'

/** A timer that its creator owns; cancelling it twice does nothing. */
export interface Timer {
  cancel(): void
}

/** Time as the pure parts take it, so that a test can hold it in its hand. */
export interface Clock {
  /** Milliseconds on a line that never steps back and counts while the machine is suspended. */
  now(): number
  /**
   * Calls `fn` once after `delayMs` milliseconds; may be late, and up to a millisecond early: look at `now()` again.
   * Keeps the process alive only when asked to, which is right where somebody waits for it.
   */
  schedule(fn: () => void, delayMs: number, options?: { readonly keepAlive?: boolean }): Timer
}

/** Longest delay that setTimeout takes (2^31 - 1 ms, 24.8 days); longer ones are waited for in parts. */
const longestDelayMs = 2_147_483_647

/** A drift of the wall clock against the monotonic one that is worth a look at the uptime: steps and suspensions, not slewing. */
const suspicionMs = 100

/** `os.uptime()` has a resolution of 10 ms on Linux and one second on macOS; nobody suspends a machine for less than this. */
const suspensionMs = process.platform === 'darwin' ? 2_000 : 250

/** Where time is read from; milliseconds each. */
export interface TimeSources {
  /** Never steps; stands still while the machine is suspended. */
  readonly monotonic: () => number
  /** May step; goes on while the machine is suspended. Cheap. */
  readonly wall: () => number
  /** Never steps; goes on while the machine is suspended. Costs a system call. */
  readonly uptime: () => number
}

/**
 * A line of time that no clock step moves and on which the time of a suspended machine counts. The uptime is read only
 * when the wall clock has moved away from the monotonic one, which a suspension always makes it do.
 */
export function createMonotonicNow({ monotonic, wall, uptime }: TimeSources): () => number {
  let wallDriftMs: number | null = null
  let uptimeDriftMs = 0
  let suspendedMs = 0
  return () => {
    const now = monotonic()
    const drift = wall() - now
    if (wallDriftMs === null) {
      wallDriftMs = drift
      uptimeDriftMs = uptime() - now
    } else if (Math.abs(drift - wallDriftMs) > suspicionMs) {
      wallDriftMs = drift
      const gap = uptime() - now - uptimeDriftMs
      if (gap > suspensionMs) {
        suspendedMs += gap
        uptimeDriftMs += gap
      }
    }
    return now + suspendedMs
  }
}

/**
 * Milliseconds on a line that no clock step moves and on which the time of a suspended machine counts: `performance.now()`
 * goes on while a process is stopped (SIGSTOP) or its event loop is blocked, but stands still while the machine sleeps.
 */
export const monotonicNow: () => number = /* @__PURE__ */ createMonotonicNow({
  // Bound once, so that a test which replaces the global clocks does not end everybody's locks.
  monotonic: /* @__PURE__ */ performance.now.bind(performance),
  wall: () => Date.now(),
  uptime: () => uptime() * 1_000,
})

/** The clock of the machine. */
export const systemClock: Clock = {
  now: monotonicNow,
  schedule(fn, delayMs, options) {
    let handle: NodeJS.Timeout
    const wait = (restMs: number): void => {
      const stepMs = Math.min(Math.max(Math.ceil(restMs), 0), longestDelayMs)
      handle = setTimeout(() => (restMs > longestDelayMs ? wait(restMs - longestDelayMs) : fn()), stepMs)
      if (options?.keepAlive !== true) handle.unref()
    }
    wait(delayMs)
    return { cancel: () => clearTimeout(handle) }
  },
}
