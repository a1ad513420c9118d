import { randomBytes } from 'node:crypto'
import { hasErrorCode, type Logger } from '@x/lock-core'
import {
  type ConnectionSource,
  connectionSource,
  createListener,
  type Listener,
  type ListenerSession,
  problemOf,
} from '@x/pg-session'
import type { ClusterDiscoveryOptions } from './options.ts'

export interface MarkedListenerOptions {
  readonly source: ConnectionSource
  readonly channel: string
  readonly logger?: Logger | undefined
  /** Silence after which the connection counts as lost, milliseconds. */
  readonly detectMs: number
  readonly onNotification: (payload: string) => void
  readonly onResync: (event: { readonly gapMs: number; readonly first: boolean }) => void
  /** The marker is held from now on, or is gone. */
  readonly onMarker: () => void
}

/** A listener where the options say; null where they say that there is none. */
export function markedListener(
  given: Pick<ClusterDiscoveryOptions, 'pool' | 'listen' | 'connectionString'>,
  options: Omit<MarkedListenerOptions, 'source'>,
): MarkedListener | null {
  const { pool, listen, connectionString } = given
  if (listen === false) return null
  const from =
    listen !== undefined ? { connection: listen } : connectionString !== undefined ? { connectionString } : { pool }
  return new MarkedListener({ ...options, source: connectionSource(from, 'createClusterDiscovery') })
}

const takeMarker = { name: 'cluster_take_marker', text: 'SELECT pg_advisory_lock_shared($1::bigint)' } as const

/** Some databases accept advisory locks and do nothing; a marker that nobody can see would look like a crash. */
const seeMarker = {
  name: 'cluster_see_marker',
  text: `SELECT count(*)::text FROM pg_catalog.pg_locks l
WHERE l.locktype = 'advisory' AND l.pid = pg_backend_pid() AND l.granted AND l.objsubid = 1
  AND ((l.classid::bigint << 32) | l.objid::bigint) = $1::bigint`,
} as const

/**
 * The connection on which a node listens. It carries the node's marker: a session advisory lock that the server drops when
 * the connection ends, which is how the sweeper sees a killed process at once. Shared, so that a half-open connection
 * of the same node does not keep the new one from taking it.
 */
export class MarkedListener {
  readonly #options: MarkedListenerOptions
  readonly #key = randomBytes(8).readBigInt64BE()
  #listener: Listener | null = null
  #marked = false

  constructor(options: MarkedListenerOptions) {
    this.#options = options
  }

  /** The key that the sweeper looks for; null while it is not held. */
  get marker(): bigint | null {
    return this.#marked ? this.#key : null
  }

  get isStarted(): boolean {
    return this.#listener !== null
  }

  get isListening(): boolean {
    return this.#listener?.state.status === 'listening'
  }

  /** Why it does not listen at the moment; null when it does, or was not asked to. */
  get lastError(): unknown {
    return this.#listener === null ? null : problemOf(this.#listener.state)
  }

  /** Resolves when it listens, or when it is clear that it cannot here. Never rejects: without it beats tell the version. */
  async start(): Promise<void> {
    const { source, channel, logger, detectMs, onNotification, onResync } = this.#options
    const listener = createListener({
      source,
      applicationName: 'cluster-discovery',
      detectMs,
      logger,
      onNotification: (_, payload) => onNotification(payload),
      onResync,
      onConnected: (session) => this.#mark(session),
      onStateChange: (state) => {
        if (state.status !== 'listening' && this.#listener === listener) this.#unmark()
      },
    })
    this.#listener = listener
    try {
      await listener.listen(channel)
    } catch (error) {
      if (hasErrorCode(error, 'CLOSED')) return
      logger?.warn({ err: error, channel }, 'this node cannot listen here; it will see changes with its next beat')
    }
  }

  async close(): Promise<void> {
    const listener = this.#listener
    this.#listener = null
    this.#marked = false
    await listener?.close()
  }

  async #mark(session: ListenerSession): Promise<void> {
    try {
      await session.query(takeMarker, [this.#key])
      const rows = await session.query(seeMarker, [this.#key])
      this.#marked = rows[0]?.[0] === '1'
    } catch (error) {
      if (!hasErrorCode(error, 'QUERY_FAILED') && !hasErrorCode(error, 'UNSUPPORTED')) throw error
      this.#options.logger?.info({ err: error }, 'no advisory locks here: a crash is noticed by the ttl')
    }
    if (this.#marked) this.#options.onMarker()
  }

  #unmark(): void {
    if (!this.#marked) return
    this.#marked = false
    this.#options.onMarker()
  }
}
