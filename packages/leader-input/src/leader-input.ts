import { ClosedError, ConfigurationError } from '@x/lock-core'
import type { KyselyPlugin } from 'kysely'
import { campaignAgainAndAgain } from './campaign.ts'
import { findDriftWhileRunning } from './capture/drift.ts'
import { type InstallReport, install, uninstall } from './capture/install.ts'
import { captureStatements } from './capture/statements.ts'
import type { ChangeEvent } from './change-event.ts'
import { connections } from './connections.ts'
import { eventIterator } from './handling/iterator.ts'
import { discardParked, replayWhatIsParked } from './handling/parked.ts'
import { parkStatements } from './handling/statements.ts'
import type { HealthRecord, InputHealth } from './health.ts'
import { type Lag, lagStatement, readLag } from './lag.ts'
import { rebase } from './log/rebase.ts'
import { type SeekPosition, seekCursor } from './log/seek.ts'
import { logStatements } from './log/statements.ts'
import { upkeepStatements } from './log/upkeep-statements.ts'
import { type ChangeHandler, type LeaderInputOptions, resolveOptions } from './options.ts'
import { migrations } from './schema.ts'
import type { InputParts } from './term.ts'
import { pollOnly, wakeByNotify } from './wake-up.ts'

/** A dead line never answers; whoever stops the input does not wait for it longer than this. */
const stopPatienceMs = 2_000

/** One input: its capture, its cursor, and this process as a candidate to lead it. */
export interface LeaderInput<DB> extends AsyncDisposable {
  readonly name: string
  /**
   * Makes the database as the options want it: capture on the tables, a cursor that begins now. Idempotent; any number of
   * replicas may call it at once. Says what it changed.
   * @throws {ConfigurationError} for a table that does not exist or cannot be captured
   * @throws {SchemaError} when `migrate(pool)` has not been run
   */
  install(): Promise<InstallReport>
  /** Takes the input away, with its cursor and what it has parked; other inputs keep what they need. */
  uninstall(): Promise<InstallReport>
  /**
   * Campaigns, leads when it is its turn, and hands each change to `handler`, in order, in the transaction that moves the
   * cursor. Survives lost databases and lost locks; resolves when `signal` aborts or the input is closed.
   * @throws {ConfigurationError} when the input is not installed, or is running already
   * @throws {SchemaError} when the schema does not fit, or was restored into another server
   * @throws {ConnectionError} when the server refuses the login, or has no such database, before it has once been reached
   * @throws {PrivilegeError} when it does not let the role read the schema's version then
   */
  run(handler: ChangeHandler<DB>, options?: { signal?: AbortSignal | undefined }): Promise<void>
  /**
   * The changes one by one, for effects outside of the database: at least once. Asking for the next event acknowledges the
   * previous one; `break` and `throw` acknowledge nothing more.
   */
  events(options?: { signal?: AbortSignal | undefined }): AsyncIterableIterator<ChangeEvent<DB>>
  /** What this process knows, without asking the database. */
  health(): InputHealth
  /** How far the input is behind, measured against the log. */
  lag(): Promise<Lag>
  /**
   * Asks the leader, whichever replica it is, to hand parked events to its handler again, in order; resolves when it has
   * tried all of them. What only waited behind one that succeeds is handed over after it, and not counted. All stay parked
   * while the leader has no handler because it hands out events by `events()`.
   */
  replayParked(filter?: {
    location?: string | undefined
    id?: string | undefined
    limit?: number | undefined
  }): Promise<{ readonly replayed: number; readonly stillParked: number }>
  /** Throws parked events away; gives their number. */
  discardParked(filter: { location?: string | undefined; id?: string | undefined }): Promise<number>
  /** Moves the cursor by hand, and acknowledges a gap. */
  seek(position: SeekPosition): Promise<void>
  /** Handles no more until `resume()`; stays leader. */
  pause(): void
  resume(): void
  /** After a restore into another server, or with `upgraded` after pg_upgrade. */
  rebase(options?: { upgraded?: boolean | undefined }): Promise<void>
  /** Stops what runs, and ends a pool that was opened here. Idempotent. */
  close(): Promise<void>
}

/**
 * An input that turns the changes of tables into events, which one replica at a time handles, in order: with effects
 * exactly once when they are written to the same database through `trx`, at least once elsewhere.
 *
 * @throws {ConfigurationError}
 * @example
 * const input = createLeaderInput<Shop>({ pool, locker, name: 'totals', tables: ['orders'] })
 * await input.install()
 * await input.run(async (events, { trx }) => {
 *   for (const event of events) await addToTotals(trx, event)
 * })
 */
export function createLeaderInput<DB>(given: LeaderInputOptions<DB>): LeaderInput<DB> {
  const options = { ...resolveOptions(given), logger: given.logger }
  const applicationName = `leader-input/${options.name}`.slice(0, 63)
  const conns = connections(given, applicationName)
  const log = logStatements(options.schema)
  const capture = captureStatements(options.schema)
  const parking = parkStatements(options.schema)
  const upkeep = upkeepStatements(options.schema)
  const lagOf = lagStatement(options.schema)
  const plugins: readonly KyselyPlugin[] = given.db?.getExecutor().plugins ?? []
  const health: HealthRecord = { status: 'stopped', epoch: null, lastError: null, drift: [] }
  const closing = new AbortController()
  let running: Promise<void> | null = null
  let paused = false

  const assertOpen = (): void => {
    if (closing.signal.aborted) throw new ClosedError('leader input')
  }
  const checked = async (): Promise<void> => {
    assertOpen()
    await conns.use((connection) =>
      migrations.check({ query: (statement, values) => connection.rows(statement, values) as never }, options.schema),
    )
  }

  const start = async (
    handler: ChangeHandler<DB>,
    signal: AbortSignal,
    mode: Pick<InputParts<DB>, 'handOver'>,
  ): Promise<void> => {
    const parts: InputParts<DB> = {
      connections: conns,
      options,
      plugins,
      log,
      capture,
      parking,
      upkeep,
      health,
      handler,
      handOver: mode.handOver,
      isPaused: () => paused,
      wakeUp:
        options.wakeUps === 'poll'
          ? pollOnly
          : wakeByNotify({
              ...options,
              applicationName,
              listen: given.listen,
              pool: given.pool,
              connectionString: given.connectionString,
            }),
    }
    health.status = 'standby'
    let patience: NodeJS.Timeout | undefined
    const onStop = (): void => {
      patience = setTimeout(() => conns.giveUp(), stopPatienceMs)
    }
    signal.addEventListener('abort', onStop, { once: true })
    try {
      await campaignAgainAndAgain(parts, checked, signal)
    } finally {
      clearTimeout(patience)
      signal.removeEventListener('abort', onStop)
      health.status = 'stopped'
      health.epoch = null
      await parts.wakeUp.close()
    }
  }

  const run = (
    handler: ChangeHandler<DB>,
    signal: AbortSignal | undefined,
    handOver: InputParts<DB>['handOver'],
  ): Promise<void> => {
    assertOpen()
    if (running !== null) {
      throw new ConfigurationError(
        `input ${options.name} is running already: stop run() or events() first, or create another input`,
      )
    }
    const ending = signal === undefined ? closing.signal : AbortSignal.any([signal, closing.signal])
    const ended = start(handler, ending, { handOver }).finally(() => {
      running = null
    })
    running = ended
    return ended
  }

  return {
    name: options.name,
    async install() {
      await checked()
      return install(conns, capture, log, options)
    },
    async uninstall() {
      await checked()
      return uninstall(conns, capture, options)
    },
    async run(handler, { signal } = {}) {
      if (typeof handler !== 'function') throw new ConfigurationError('run: expected a handler function')
      await run(handler, signal, null)
    },
    events({ signal } = {}) {
      assertOpen()
      return eventIterator<DB>((handOver, stop) =>
        run(() => {}, signal === undefined ? stop : AbortSignal.any([signal, stop]), handOver),
      )
    },
    health: () => ({ ...health }),
    async lag() {
      assertOpen()
      return conns.use(async (connection) => {
        const drift = await findDriftWhileRunning(connection, capture, options)
        return readLag(connection, lagOf, options.name, drift.lines)
      })
    },
    async replayParked(filter = {}) {
      assertOpen()
      return replayWhatIsParked(conns, parking, options.name, filter, closing.signal)
    },
    async discardParked(filter) {
      assertOpen()
      return discardParked(conns, parking, options.name, filter)
    },
    async seek(position) {
      assertOpen()
      await seekCursor(conns, log, options.name, position)
    },
    pause() {
      paused = true
    },
    resume() {
      paused = false
    },
    async rebase({ upgraded = false } = {}) {
      await checked()
      await rebase(conns, log, options.name, upgraded)
    },
    async close() {
      closing.abort(new ClosedError('leader input'))
      await running?.catch(() => {})
      await conns.close()
    },
    async [Symbol.asyncDispose]() {
      await this.close().catch(() => {})
    },
  }
}
