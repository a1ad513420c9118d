import type { z } from 'zod'
import type { ChildMessage } from './messages.ts'

/** The settings with which the parent started this process. */
export const settingsFromParent = <T>(schema: z.ZodType<T>): T => schema.parse(JSON.parse(process.argv[2] ?? 'null'))

export const tellParent = (message: ChildMessage): void => {
  // The callback keeps a closed channel from becoming an uncaught error: then the parent is gone and nobody listens.
  if (process.connected) process.send?.(message, () => {})
}

const lostParent = (): never => process.exit(0)

/**
 * Ties this process to its parent. Asked to stop, it runs `stop` and then ends by itself, so that a timer or a
 * connection left behind would show; a parent that is gone without a word (kill -9 closes the channel too) ends it at once.
 */
export const followParent = (stop: () => Promise<void>): void => {
  // Ctrl-C reaches the whole process group. The parent alone decides what ends, and in which order.
  process.on('SIGINT', () => {})
  process.on('disconnect', lostParent)
  process.once('message', () => {
    void stop().then(() => {
      process.off('disconnect', lostParent)
      process.disconnect()
    })
  })
}
