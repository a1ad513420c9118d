import { setTimeout as delay } from 'node:timers/promises'
import type { DirectConnection, Logger, PgPool } from '@x/lock-core'
import { channelName, connectionSource, createListener } from '@x/pg-session'
import { notifyChannel } from './capture/triggers.ts'

/** What wakes a resting leader before its time. */
export interface WakeUp {
  /** Resolves after `ms`, or earlier when there may be something. Never rejects. */
  rest(ms: number, signal: AbortSignal): Promise<void>
  close(): Promise<void>
}

export const pollOnly: WakeUp = {
  async rest(ms, signal) {
    await delay(ms, undefined, { signal }).catch(() => {})
  },
  async close() {},
}

/** Listens for the notifications of capturing transactions. They are hints: the leader goes on looking by itself. */
export function wakeByNotify(options: {
  readonly schema: string
  readonly listen: DirectConnection | undefined
  readonly pool: PgPool | undefined
  readonly connectionString: string | undefined
  readonly applicationName: string
  readonly logger: Logger | undefined
}): WakeUp {
  const { listen, pool, connectionString, applicationName, logger } = options
  const given = listen !== undefined ? { connection: listen } : pool !== undefined ? { pool } : { connectionString }
  let knock: AbortController | null = null
  let knocked = false
  const wake = (): void => {
    knocked = true
    knock?.abort()
  }
  const listener = createListener({
    source: connectionSource(given, 'createLeaderInput'),
    applicationName: `${applicationName}/wake-up`.slice(0, 63),
    onNotification: wake,
    onResync: wake,
    logger,
  })
  listener.listen(channelName(notifyChannel(options.schema))).catch((error: unknown) => {
    logger?.warn({ err: error }, 'cannot listen for wake-ups; polling')
  })
  return {
    async rest(ms, signal) {
      if (!knocked) {
        knock = new AbortController()
        await delay(ms, undefined, { signal: AbortSignal.any([signal, knock.signal]) }).catch(() => {})
        knock = null
      }
      knocked = false
    },
    close: () => listener.close(),
  }
}
