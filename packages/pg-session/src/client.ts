import { ConfigurationError } from '@x/lock-core'
import type pg from 'pg'
import { fromConnectError } from './sqlstate.ts'

/** How long a polite end may take before the socket is destroyed: a dead line never answers. */
export const goodbyeMs = 1_000

/**
 * Connects a client whose errors cannot crash the process.
 *
 * @throws the signal's reason, or one of our errors; the client is destroyed then
 */
export async function connectClient(
  client: pg.Client,
  { connect, signal }: { connect: () => Promise<unknown>; signal?: AbortSignal | undefined },
): Promise<void> {
  refuseNative(client, 'connecting')
  // After a failure the driver may emit another error, and an emitter without a listener throws it at the process.
  client.on('error', ignore)
  signal?.throwIfAborted()
  const stop = (): void => destroyClient(client)
  signal?.addEventListener('abort', stop, { once: true })
  try {
    await connect()
    signal?.throwIfAborted()
  } catch (error) {
    destroyClient(client)
    signal?.throwIfAborted()
    throw fromConnectError(error, 'connecting')
  } finally {
    signal?.removeEventListener('abort', stop)
  }
}

/**
 * Their loss cannot be told from their silence, and their sockets cannot be destroyed.
 *
 * @throws {ConfigurationError} for a client of pg-native
 */
export function refuseNative(client: object, what: string): void {
  if (!('native' in client)) return
  throw new ConfigurationError(
    `${what}: expected connections of pg's JavaScript client, got pg-native's, whose socket we could not watch over; use pg.Pool and not pg.native.Pool, and unset NODE_PG_FORCE_NATIVE`,
    { option: 'pool' },
  )
}

/** Ends the connection: politely first, and for good after a second. Resolves when the socket is closed. */
export async function endClient(client: pg.Client): Promise<void> {
  const timer = setTimeout(() => destroyClient(client), goodbyeMs)
  try {
    await client.end()
  } catch {
    destroyClient(client)
  } finally {
    clearTimeout(timer)
  }
}

/** Closes the socket without a word, as is right for a client whose query was given up: its answer may still come. */
export function destroyClient(client: pg.Client): void {
  client.connection.stream.destroy()
}

/** Whether the open connection alone keeps the process running. A stream of the caller's own may know of no such thing. */
export function keepProcess(client: pg.Client, on: boolean): void {
  const { stream } = client.connection
  const method: unknown = Reflect.get(stream, on ? 'ref' : 'unref')
  if (typeof method === 'function') Reflect.apply(method, stream, [])
}

/** Settles as `promise` does, or rejects with the signal's reason; for what cannot be stopped, such as a caller's function. */
export function untilAborted<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return promise
  return new Promise((resolve, reject) => {
    const stop = (): void => reject(signal.reason)
    if (signal.aborted) stop()
    else signal.addEventListener('abort', stop, { once: true })
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', stop))
  })
}

/** The process id that the server, or a pooler before it, told at the start of the connection. */
export function processIdOf(client: object): number | null {
  const id: unknown = Reflect.get(client, 'processID')
  return typeof id === 'number' ? id : null
}

/** Last word on what `pg_stat_activity` shows: the driver takes the name in a connection string before that beside it. */
export function nameClient(client: pg.Client, applicationName: string): void {
  const parameters: unknown = Reflect.get(client, 'connectionParameters')
  if (typeof parameters === 'object' && parameters !== null) {
    Reflect.set(parameters, 'application_name', applicationName)
  }
}

const ignore = (): void => {}
