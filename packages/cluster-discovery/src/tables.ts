import { lockId } from '@x/lock-core'
import { channelName, quoteIdentifier, type Runner, type Statement, type StatementOptions } from '@x/pg-session'
import type { Metadata, NodeRecord } from './node.ts'
import {
  type BeatAnswer,
  type Look,
  parseBeat,
  parseDead,
  parseFate,
  parseLook,
  parseQuietBeat,
  parseReading,
  parseRecord,
  parseSweeperLook,
  type ServerReading,
  type Suspect,
  type SweeperLook,
} from './record.ts'
import { checkTables } from './schema.ts'
import { type ClusterStatements, clusterStatements } from './statements.ts'

/** A read of a large cluster may take longer than the ttl of an impatient one. */
const leastReadMs = 5_000

/** One life of one node. */
export interface Incarnation {
  readonly id: string
  readonly incarnation: bigint
}

/** A sweeper's lease: an incarnation and the epoch it sweeps in. */
export interface SweeperLease extends Incarnation {
  readonly epoch: bigint
}

/** One cluster in the tables. Each method is one statement, one transaction, one round trip. */
export class ClusterTables {
  readonly channel: string
  readonly #runner: Runner
  readonly #schema: string
  readonly #cluster: string
  readonly #statements: ClusterStatements
  readonly #behindTimeoutMs: number
  #background = new AbortController()
  /** For what the caller waits for. */
  readonly #asked = new AbortController()

  /** @param options.behindTimeoutMs for what runs behind the caller's back, but for beats, which bring their own */
  constructor(runner: Runner, options: { schema: string; cluster: string; behindTimeoutMs: number }) {
    this.#runner = runner
    this.#schema = options.schema
    this.#cluster = options.cluster
    this.#behindTimeoutMs = options.behindTimeoutMs
    this.channel = channelName(`cluster_${options.schema}_${options.cluster}`)
    // A statement name means one text per connection; two schemas on one pool are two texts.
    const tag = lockId(0, options.schema).toString(36)
    this.#statements = clusterStatements(quoteIdentifier(options.schema), tag)
  }

  /** Whatever runs behind the caller's back (beats, looks, reads) rejects now: somebody waits for it to end. */
  abandonBackground(): void {
    this.#background.abort()
    this.#background = new AbortController()
  }

  /** The same, and whatever the caller waits for rejects with `reason`, now and later. */
  abandonAll(reason: Error): void {
    this.#asked.abort(reason)
    this.abandonBackground()
  }

  /** @throws {SchemaError} SCHEMA_MISSING, SCHEMA_OUTDATED, SCHEMA_NEWER */
  checkSchema(): Promise<void> {
    const { signal } = this.#asked
    return checkTables(
      { query: (statement, values) => this.#runner.query(statement, values, { signal }) },
      this.#schema,
    )
  }

  async join(
    node: { id: string; name: string; address: string | null; metadata: Metadata },
    attempt: string,
    ttlMs: number,
  ): Promise<NodeRecord> {
    const { id, name, address, metadata } = node
    const values = [id, name, address, JSON.stringify(metadata), attempt, ttlMs, this.channel]
    return parseRecord(owed(await this.#ask(this.#statements.join, values, { signal: this.#asked.signal }), 'join'))
  }

  /** Null when the incarnation is no member any more. */
  async beat(
    self: Incarnation,
    beat: { marker: bigint | null; number: number; asks: boolean; leaseMs: number; timeoutMs: number },
  ): Promise<BeatAnswer | null> {
    const values = [self.id, self.incarnation, beat.marker, beat.number]
    const options = { ...this.#behind(), timeoutMs: beat.timeoutMs }
    if (beat.asks) {
      const answer = await this.#ask(this.#statements.beat, [...values, beat.leaseMs], options)
      return answer === null ? null : parseBeat(answer)
    }
    const answer = await this.#ask(this.#statements.quietBeat, values, options)
    return answer === null ? null : parseQuietBeat(answer)
  }

  async fate(id: string): Promise<{ readonly incarnation: bigint; readonly state: string } | null> {
    const answer = await this.#ask(this.#statements.fate, [id], this.#behind())
    return answer === null ? null : parseFate(answer)
  }

  /**
   * @param known the reader's version; -1 for everything
   * @param patienceMs more than what runs behind the caller's back has
   */
  async read(known: bigint, patienceMs = 0): Promise<ServerReading | null> {
    const timeoutMs = Math.max(leastReadMs, this.#behindTimeoutMs, patienceMs)
    const signal = AbortSignal.any([this.#background.signal, this.#asked.signal])
    const answer = await this.#ask(this.#statements.read, [known], { signal, timeoutMs })
    return answer === null ? null : parseReading(answer)
  }

  /** Null when the incarnation is no member any more; so are the next two. */
  async update(self: Incarnation, metadata: Metadata): Promise<NodeRecord | null> {
    return this.#change(this.#statements.update, self, [JSON.stringify(metadata)], { signal: this.#asked.signal })
  }

  async drain(self: Incarnation): Promise<NodeRecord | null> {
    return this.#change(this.#statements.drain, self, [], { signal: this.#asked.signal })
  }

  async leave(self: Incarnation, timeoutMs: number): Promise<NodeRecord | null> {
    return this.#change(this.#statements.leave, self, [], { timeoutMs, bypassPolicy: true })
  }

  /** The new epoch, or null when somebody else sweeps. */
  async takeLease(self: Incarnation, leaseMs: number): Promise<bigint | null> {
    return epochOf(await this.#ask(this.#statements.take, [self.id, self.incarnation, leaseMs], this.#behind()))
  }

  async watchSweeper(): Promise<SweeperLook | null> {
    const answer = await this.#ask(this.#statements.watchSweeper, [], this.#behind())
    return answer === null ? null : parseSweeperLook(answer)
  }

  async succeed(self: Incarnation, crashed: SweeperLook): Promise<bigint | null> {
    const values = [self.id, self.incarnation, crashed.epoch, crashed.lastBeat]
    return epochOf(await this.#ask(this.#statements.succeed, values, this.#behind()))
  }

  /** Null when the lease is lost. */
  async look(lease: SweeperLease): Promise<Look | null> {
    const values = [lease.id, lease.incarnation, lease.epoch]
    const answer = await this.#ask(this.#statements.look, values, this.#behind())
    return answer === null ? null : parseLook(answer)
  }

  /** Who was let go: those of the suspects who are still silent. */
  async down(
    lease: SweeperLease,
    suspects: readonly Suspect[],
    cause: 'ttl' | 'crash',
  ): Promise<readonly Incarnation[]> {
    const answer = await this.#ask(
      this.#statements.down,
      [
        lease.id,
        lease.incarnation,
        lease.epoch,
        suspects.map((each) => each.id),
        suspects.map((each) => each.incarnation),
        suspects.map((each) => each.lastBeat),
        cause,
        this.channel,
      ],
      this.#behind(),
    )
    return answer === null ? [] : parseDead(answer)
  }

  async prune(olderThanMs: number, keep: number): Promise<void> {
    await this.#ask(this.#statements.prune, [olderThanMs, keep], this.#behind())
  }

  #behind(): StatementOptions {
    return { bypassPolicy: true, signal: this.#background.signal, timeoutMs: this.#behindTimeoutMs }
  }

  async #change(
    statement: Statement,
    self: Incarnation,
    more: readonly unknown[] = [],
    options: StatementOptions = {},
  ): Promise<NodeRecord | null> {
    const answer = await this.#ask(statement, [self.id, self.incarnation, this.channel, ...more], options)
    return answer === null ? null : parseRecord(answer)
  }

  async #ask(statement: Statement, values: readonly unknown[], options: StatementOptions = {}): Promise<string | null> {
    const rows = await this.#runner.query(statement, [this.#cluster, ...values], options)
    const answer = rows[0]?.[0]
    return typeof answer === 'string' ? answer : null
  }
}

function owed(answer: string | null, what: string): string {
  if (answer === null) throw new TypeError(`${what} got no row; the tables are not those of this package's migrations`)
  return answer
}

function epochOf(answer: string | null): bigint | null {
  return answer === null ? null : BigInt(answer)
}
