import type { z } from 'zod'
import type { ChildMessage } from './messages.ts'

/** The process that started this one. Dispose it at the very end, and this process may end. */
export interface Parent<T> extends Disposable {
  readonly settings: T
  /** Aborts when the parent asks this process to stop. */
  readonly stop: AbortSignal
  tell(message: ChildMessage): void
}

const lostParent = (): never => process.exit(0)

/**
 * Ties this process to its parent: one that is gone without a word (kill -9 closes the channel too) ends it at once.
 * Asked to stop, it is on its own: it ends when nothing is left to do, so that a timer or a connection left behind shows.
 */
export const followParent = <T>(settings: z.ZodType<T>): Parent<T> => {
  const stopping = new AbortController()
  // Ctrl-C reaches the whole process group. The parent alone decides what ends, and in which order.
  process.on('SIGINT', () => {})
  process.on('disconnect', lostParent)
  process.once('message', () => stopping.abort())
  return {
    settings: settings.parse(JSON.parse(process.argv[2] ?? 'null')),
    stop: stopping.signal,
    tell(message) {
      // The callback keeps a channel that closes at this moment from becoming an uncaught error.
      if (process.connected) process.send?.(message, () => {})
    },
    [Symbol.dispose]() {
      process.off('disconnect', lostParent)
      process.disconnect()
    },
  }
}
