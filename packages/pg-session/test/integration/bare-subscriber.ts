import { backendsNamed, eventually, terminateBackend } from '@x/testkit'
import type { DatabaseOfFile } from '@x/testkit/vitest'
import type { ClientConfig } from 'pg'
import pgListen, { type Options, type Subscriber } from 'pg-listen'
import { afterEach } from 'vitest'

/** pg-listen as it is, with all that it told. */
export interface BareSubscriber {
  readonly subscriber: Subscriber
  readonly heard: [channel: string, payload: unknown][]
  readonly errors: string[]
  /** Arguments of each `connected`. */
  readonly connected: unknown[][]
  /** Attempts to reconnect so far. */
  readonly attempts: number
}

const applicationName = 'bare'

/** Makes bare pg-listen subscribers; what they leave behind after a test is ended by force. */
export function bareSubscribers(database: DatabaseOfFile): {
  subscribe: (settings: ClientConfig, options?: Options) => BareSubscriber
  /** Sessions of bare subscribers on the server. */
  sessions: () => Promise<readonly number[]>
} {
  const open: Subscriber[] = []
  const sessions = (): Promise<readonly number[]> => backendsNamed(database.pool(), applicationName)
  afterEach(async () => {
    // Not waited for: on a dead line it never resolves.
    for (const subscriber of open.splice(0)) subscriber.close().catch(() => {})
    await eventually(async () => {
      await terminateBackend(database.pool(), { applicationName })
      return (await sessions()).length === 0
    })
  })
  return {
    sessions,
    subscribe(settings, options = {}) {
      const subscriber = pgListen.default(
        { ...settings, application_name: applicationName },
        { paranoidChecking: false, parse: (payload) => payload, ...options },
      )
      open.push(subscriber)
      const heard: [string, unknown][] = []
      const errors: string[] = []
      const connected: unknown[][] = []
      let attempts = 0
      subscriber.events.on('notification', ({ channel, payload }) => heard.push([channel, payload]))
      subscriber.events.on('error', (error) => errors.push(error.message))
      subscriber.events.on('connected', (...about) => connected.push(about))
      subscriber.events.on('reconnect', () => {
        attempts += 1
      })
      return {
        subscriber,
        heard,
        errors,
        connected,
        get attempts() {
          return attempts
        },
      }
    },
  }
}
