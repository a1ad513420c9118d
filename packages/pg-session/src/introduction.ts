import { ConnectionError } from '@x/lock-core'
import type pg from 'pg'
import { processIdOf } from './client.ts'
import { detectPooler, refuseStandby } from './detect.ts'
import { sqlStateOf } from './sqlstate.ts'
import * as statements from './statements.ts'
import type { Wire } from './wire.ts'

/** What is known of a fresh connection. */
export interface Introduction {
  readonly pid: number
  readonly inRecovery: boolean
}

export interface IntroductionOptions {
  readonly what: string
  readonly detectMs: number
  /** Undefined refuses as well, for a caller who has no such option and is not told of it. */
  readonly pooler: 'refuse' | 'session' | undefined
  readonly requirePrimary: boolean
  readonly settings: Readonly<Record<string, string>>
  readonly signal?: AbortSignal | undefined
}

/**
 * Checks who is at the other end and makes the server notice the death of this client within seconds, in one round trip.
 * A connection that does not suit is closed.
 *
 * @throws {PoolerDetectedError} {UnsupportedError} {ConnectionError} or the signal's reason
 */
export async function introduceWire(
  wire: Wire,
  client: pg.Client,
  options: IntroductionOptions,
): Promise<Introduction> {
  const { signal, what } = options
  const stop = (): void => void wire.close()
  signal?.addEventListener('abort', stop, { once: true })
  const processId = processIdOf(client)
  try {
    const settings = { ...serverSettings(options.detectMs), ...options.settings }
    const pinned = options.pooler === 'session'
    const introduction = await introduce(wire, settings, pinned ? null : processId)
    const advice = options.pooler === undefined ? '' : `, or say pooler: 'session' if the pooler pins sessions`
    if (!pinned) detectPooler(processId, introduction.pid, what, advice)
    if (options.requirePrimary) refuseStandby(introduction.inRecovery, what)
    signal?.throwIfAborted()
    return introduction
  } catch (error) {
    await wire.close()
    signal?.throwIfAborted()
    throw error
  } finally {
    signal?.removeEventListener('abort', stop)
  }
}

/**
 * The server's side of the detection: it must free a dead client's locks in seconds and not in two hours. It is slower than
 * the client's by design, so that a holder knows of its loss before the lock is given to another.
 */
function serverSettings(detectMs: number): Record<string, string> {
  const seconds = Math.max(1, Math.ceil(detectMs / 1_000))
  return {
    idle_session_timeout: '0',
    idle_in_transaction_session_timeout: '0',
    statement_timeout: '0',
    lock_timeout: '0',
    tcp_keepalives_idle: String(seconds),
    tcp_keepalives_interval: String(Math.max(1, Math.ceil(seconds / 3))),
    tcp_keepalives_count: '3',
    tcp_user_timeout: String(2 * detectMs),
    client_connection_check_interval: String(Math.max(500, Math.ceil(detectMs / 2))),
  }
}

async function introduce(
  wire: Wire,
  settings: Readonly<Record<string, string>>,
  expectedPid: number | null,
): Promise<Introduction> {
  const names = Object.keys(settings)
  try {
    const values = [names, Object.values(settings), expectedPid]
    return introductionOf((await wire.query<[number, boolean]>(statements.introduce, values))[0])
  } catch (error) {
    if (sqlStateOf(error) === null || !wire.isAlive()) throw error
  }
  // One setting was refused (a platform without client_connection_check_interval), or the server lacks a function that the
  // statement uses. Then one by one; without a setting the server just notices later.
  const introduction = introductionOf((await wire.query<[number, boolean]>(statements.introduceOnly, []))[0])
  if (expectedPid !== null && expectedPid !== introduction.pid) return introduction
  for (const name of names) {
    await wire.query(statements.setOne, [name, settings[name]]).catch((refused: unknown) => {
      if (!wire.isAlive()) throw refused
    })
  }
  return introduction
}

function introductionOf(row: readonly [number, boolean] | undefined): Introduction {
  if (row === undefined) throw new ConnectionError('expected the server to tell its process id, got no row')
  return { pid: Number(row[0]), inRecovery: row[1] === true }
}
