/** How the run is asked to end before its time. */
export interface Interruption {
  /** Stop the load and come to the audit: Ctrl-C under `--keep`. */
  readonly finish: AbortSignal
  /** Clean up and leave: Ctrl-C otherwise or for the second time, SIGTERM, SIGHUP, nobody left to see it, a failure. */
  readonly abandon: AbortSignal
  fail(error: Error): void
}

/** The user asked for it: nothing failed. */
export class Interrupted extends Error {
  override readonly name = 'Interrupted'
}

/** One Ctrl-C arrives several times: from the terminal, and passed on by npm and by the script that started us. */
const oneKeypressMs = 500
const parentCheckMs = 500

export const followSignals = (keep: boolean): Interruption => {
  const finish = new AbortController()
  const abandon = new AbortController()
  let finishedAt = Number.NEGATIVE_INFINITY
  process.on('SIGINT', () => {
    const now = performance.now()
    if (keep && !finish.signal.aborted) {
      finishedAt = now
      finish.abort()
    } else if (now - finishedAt > oneKeypressMs) abandon.abort(new Interrupted('Ctrl-C'))
  })
  // Whoever read our output is gone: `| head`, a closed terminal.
  process.stdout.on('error', () => abandon.abort(new Interrupted('the end of its output')))
  for (const signal of ['SIGTERM', 'SIGHUP'] as const) process.on(signal, () => abandon.abort(new Interrupted(signal)))
  // npm or its shell was killed: nobody waits for us any more.
  const parent = process.ppid
  setInterval(() => {
    if (process.ppid !== parent) abandon.abort(new Interrupted('the end of its parent'))
  }, parentCheckMs).unref()
  return { finish: finish.signal, abandon: abandon.signal, fail: (error) => abandon.abort(error) }
}
