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

const monotonic = performance.now.bind(performance)

/** Longest delay that setTimeout takes (2^31 - 1 ms, 24.8 days); longer ones are waited for in parts. */
const longestDelayMs = 2_147_483_647

/** A drift of the wall clock against the monotonic one that is worth a look at the uptime: steps and suspensions, not slewing. */
const suspicionMs = 100

/** `os.uptime()` has a resolution of 10 ms on Linux and one second on macOS; nobody suspends a machine for less than this. */
const suspensionMs = process.platform === 'darwin' ? 2_000 : 250

interface Suspension {
  wallDriftMs: number
  uptimeDriftMs: number
  suspendedMs: number
}

let observed: Suspension | null = null

/**
 * Milliseconds on a line that no clock step moves and on which the time of a suspended machine counts.
 *
 * `performance.now()` goes on while a process is stopped (SIGSTOP) or its event loop is blocked, but stands still while
 * the machine sleeps; `os.uptime()` counts that time. The uptime costs a system call, so it is read only when the wall
 * clock has moved away from the monotonic one, which a suspension always makes it do.
 */
export function monotonicNow(): number {
  const now = monotonic()
  const wallDriftMs = Date.now() - now
  if (observed === null) {
    observed = { wallDriftMs, uptimeDriftMs: uptime() * 1_000 - now, suspendedMs: 0 }
  } else if (Math.abs(wallDriftMs - observed.wallDriftMs) > suspicionMs) {
    observed.wallDriftMs = wallDriftMs
    const uptimeDriftMs = uptime() * 1_000 - now
    if (uptimeDriftMs - observed.uptimeDriftMs > suspensionMs) {
      observed.suspendedMs += uptimeDriftMs - observed.uptimeDriftMs
      observed.uptimeDriftMs = uptimeDriftMs
    }
  }
  return now + observed.suspendedMs
}

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
