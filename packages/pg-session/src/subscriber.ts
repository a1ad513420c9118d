import pg from 'pg'
import pgListen, { type Subscriber } from 'pg-listen'

/** A `pg-listen` subscriber to be used once, with the client that it made. */
export interface DisposableSubscriber {
  readonly subscriber: Subscriber
  /** For heartbeats and probes, which pg-listen offers no way to send. */
  readonly client: pg.Client
}

/**
 * A subscriber without retries, checks and parsers of its own: when its connection ends, so does its use. Its own reconnect
 * gives up after three seconds, ignores a drop while it subscribes again, and leaves a session behind when it is closed
 * meanwhile; its check has no timeout; a throwing parser turns foreign payloads into errors.
 *
 * `onNotification` must only enqueue: what it throws would escape into the driver.
 */
export function disposableSubscriber(
  settings: pg.ClientConfig,
  onNotification: (channel: string, payload: string) => void,
): DisposableSubscriber {
  const { subscriber, client } = capture(() =>
    pgListen.default(settings, {
      paranoidChecking: false,
      // No attempt of its own, also where "attempt < retryLimit" is mended to "<=".
      retryLimit: -1,
      parse: (payload) => payload,
    }),
  )
  // Emitted when it would have reconnected; the supervisor has seen the client's own event.
  subscriber.events.on('error', () => {})
  subscriber.events.on('notification', ({ channel, payload }) => onNotification(channel, payload ?? ''))
  return { subscriber, client }
}

/**
 * pg-listen keeps its client to itself. It makes it before it returns, from the module `pg` that it shares with us as a peer,
 * so for the length of this synchronous call the module's `Client` is one that remembers the instance.
 */
function capture(create: () => Subscriber): DisposableSubscriber {
  const Original = pg.Client
  let client: pg.Client | null = null
  pg.Client = class extends Original {
    constructor(settings?: string | pg.ClientConfig) {
      super(settings)
      client = this
    }
  }
  try {
    const subscriber = create()
    if (client === null) {
      throw new TypeError('pg-listen uses another copy of pg than this package: install one version of pg (npm ls pg)')
    }
    return { subscriber, client }
  } finally {
    pg.Client = Original
  }
}
