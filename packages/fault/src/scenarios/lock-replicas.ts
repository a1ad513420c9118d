import { fencingViolations } from '@x/lock-core/conformance'
import { migrate } from '@x/lock-table/migrations'
import {
  type DatabaseTemplate,
  eventually,
  LockHistory,
  monotonicMicros,
  type Overlap,
  overlaps,
  type RandomSource,
  staleWrites,
} from '@x/testkit'
import type { Pool } from 'pg'
import { z } from 'zod'
import { actorMessages } from '../actors/actor.ts'
import { Replica } from '../replica.ts'
import { leftBehind } from './left-behind.ts'

export const lockTtlMs = 1_500

/** After the faults every process gets a lock within this time: a ttl, a claim, a reconnect with backoff. */
const livenessMs = 20_000

/** `unshared` breaks its promise, to show that this is found. */
export type LockAdapter = 'table' | 'table-poll' | 'advisory' | 'advisory-server' | 'unshared'

const messages = z.discriminatedUnion('type', [
  ...actorMessages,
  z.object({
    type: z.literal('granted'),
    hold: z.number(),
    key: z.string(),
    mode: z.enum(['exclusive', 'shared']),
    token: z.string().nullable(),
    at: z.number(),
  }),
  z.object({ type: z.literal('held'), hold: z.number(), at: z.number() }),
  z.object({ type: z.literal('refused'), key: z.string() }),
])
type Message = z.infer<typeof messages>

export const lockTemplate: DatabaseTemplate = {
  name: 'locks',
  async prepare(pool) {
    await migrate(pool)
    await pool.query('CREATE TABLE writes (seq bigint GENERATED ALWAYS AS IDENTITY, key text, token bigint)')
  },
}

const whatLocksLeave = `
  SELECT format('ticket of %s for %s', session_id, key) AS what
    FROM coordination.lock_waiters JOIN coordination.lock_sessions s USING (session_id)
   WHERE s.expires_at > clock_timestamp()
  UNION ALL
  SELECT format('lock %s held by %s', key, acquirer_name) FROM coordination.active_locks`

const describeOverlap = ({ earlier, later, micros }: Overlap): string =>
  `${later.key}: ${later.holder} (token ${later.token}) was granted while ${earlier.holder} (token ${earlier.token}) ` +
  `believed to hold it, for ${Math.round(micros / 1_000)} ms`

/** Replicas that take the same few locks, and what was seen of them. */
export class LockReplicas implements AsyncDisposable {
  readonly #adapter: LockAdapter
  readonly #history = new LockHistory()
  readonly #lastGrant = new Map<string, number>()
  readonly #lastFailure = new Map<string, string>()
  readonly #broken: string[] = []
  #refused = 0
  #failures = 0
  #replicas: readonly Replica<Message>[] = []

  private constructor(adapter: LockAdapter) {
    this.#adapter = adapter
  }

  static async start(options: {
    readonly adapter: LockAdapter
    readonly databaseUrl: string
    readonly random: RandomSource
  }): Promise<LockReplicas> {
    const { adapter, databaseUrl, random } = options
    const started = new LockReplicas(adapter)
    const start = (name: string): Promise<Replica<Message>> =>
      Replica.start({
        ...{ name, messages, databaseUrl },
        actor: new URL('../actors/lock-actor.ts', import.meta.url),
        settings: ({ url, processName }) => ({
          ...{ adapter, url, processName, ttlMs: lockTtlMs },
          ...{ keys: ['a', 'b', 'c', 'd', 'e', 'f'], workers: 4, seed: random.seed },
        }),
        onMessage: (processName, message) => started.#hear(processName, message),
      })
    started.#replicas = await Promise.all(['r0', 'r1', 'r2', 'r3'].map(start))
    for (const { process } of started.#replicas) await process.message(({ type }) => type === 'ready')
    return started
  }

  get replicas(): readonly Replica<Message>[] {
    return this.#replicas
  }

  #hear(processName: string, message: Message): void {
    if (message.type === 'granted' || message.type === 'held') this.#history.record(processName, message)
    if (message.type === 'granted') this.#lastGrant.set(processName, message.at)
    if (message.type === 'refused') this.#refused += 1
    if (message.type === 'failed') {
      this.#failures += 1
      this.#lastFailure.set(processName, message.message)
    }
    if (message.type === 'broken') this.#broken.push(`${processName}: ${message.what}`)
    if (message.type === 'closed' && message.resources.length > 0) {
      this.#broken.push(`${processName}: still there after close(): ${message.resources.join(', ')}`)
    }
  }

  /** Liveness: from now on every process gets a lock again. Resolves to those that did not. */
  async stuck(): Promise<readonly string[]> {
    const since = monotonicMicros()
    const violations: string[] = []
    for (const { processName } of this.#replicas) {
      const works = (): boolean => (this.#lastGrant.get(processName) ?? 0) > since
      await eventually(works, { deadlineMs: livenessMs }).catch(() => {
        const failure = this.#lastFailure.get(processName) ?? 'none'
        violations.push(
          `${processName} got no lock within ${livenessMs} ms after the last fault; last error: ${failure}`,
        )
      })
    }
    return violations
  }

  /** Lets every process end in good order; resolves to what was not in order. */
  async finish(): Promise<readonly string[]> {
    return (await Promise.all(this.#replicas.map((replica) => replica.finish(15_000)))).flat()
  }

  /** Exclusion, fencing, nothing left; when all processes have ended. */
  async verdict(admin: Pool): Promise<{ violations: readonly string[]; counts: Readonly<Record<string, number>> }> {
    const { rows } = await admin.query<{ key: string; token: string }>('SELECT key, token FROM writes ORDER BY seq')
    const { holds } = this.#history
    const isLease = this.#adapter === 'table' || this.#adapter === 'table-poll'
    // A session that the server ended is free for others before its holder can know: bounded by the time to notice.
    const allowedMicros = isLease ? 0 : (lockTtlMs + 1_000) * 1_000
    const found = overlaps(holds)
    const violations = [
      ...this.#broken,
      ...found.filter(({ micros }) => micros > allowedMicros).map(describeOverlap),
      ...fencingViolations(holds),
      ...staleWrites(rows.map(({ key, token }) => ({ key, token: BigInt(token) }))),
      ...(await leftBehind(admin, whatLocksLeave)),
    ]
    const counts = {
      holds: holds.length,
      writes: rows.length,
      'refused writes': this.#refused,
      'failed operations': this.#failures,
      'excused overlaps': found.filter(({ micros }) => micros <= allowedMicros).length,
    }
    return { violations, counts }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const replica of this.#replicas) await replica[Symbol.asyncDispose]()
  }
}
