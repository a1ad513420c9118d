/** The longest that a timer of Node.js takes; it comes again. */
const seldomMs = 2_147_483_647

/**
 * Keeps the process running until the signal aborts or it is disposed of: for those who wait. A lock does not, nor does the
 * timer that ends it: of two replicas whose only work is an office, the leader would end where the standby goes on.
 */
export function keepProcess(until: AbortSignal): Disposable {
  const timer = setInterval(() => {}, seldomMs)
  const end = (): void => clearInterval(timer)
  until.addEventListener('abort', end, { once: true })
  if (until.aborted) end()
  return { [Symbol.dispose]: end }
}
