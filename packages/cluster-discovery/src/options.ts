import { randomUUID } from 'node:crypto'
import type { DirectConnection, ObservabilityOptions, PgPool } from '@x/lock-core'
import { observabilityOptions, parseOptions } from '@x/lock-core/adapter'
import { checkPool } from '@x/pg-session'
import { z } from 'zod'
import { checkMetadata } from './metadata.ts'
import type { Metadata, Node } from './node.ts'

/** Options of {@link createClusterDiscovery}. */
export interface ClusterDiscoveryOptions extends ObservabilityOptions {
  /** For all statements; never ended by us. A pool of a transaction pooler will do. */
  pool: PgPool
  /** Any text of up to 1 KiB; several clusters share a database without knowing of each other. */
  cluster: string
  /** @default 'coordination' */
  schema?: string | undefined
  /**
   * Where to LISTEN, when not where the pool connects: the address of the server itself, past a pooler.
   * @default the pool's settings
   */
  connectionString?: string | undefined
  /**
   * The same with all settings; `false` opens no connection of its own: changes are then seen with the next beat.
   * @default `connectionString`, or the pool's settings
   */
  listen?: DirectConnection | false | undefined
  node: {
    /**
     * Up to 1 KiB. Two live processes with one id: the later one replaces the earlier.
     * @default random, another for each process
     */
    id?: string | undefined
    /** For people; any text of up to 1 KiB. */
    name: string
    /** Where peers reach this node; up to 1 KiB. */
    address?: string | undefined
    /** Plain JSON, at most 16 KiB. @default {} */
    metadata?: Metadata | undefined
  }
  /** Between two beats, ± 20 %. Milliseconds, at least 50. @default 2_000 */
  heartbeatMs?: number | undefined
  /** Without a beat for so long a node is let go. Milliseconds, at least three heartbeats. @default 8_000 */
  ttlMs?: number | undefined
  /** Joins again after the others have let this node go; never after another process took its id. @default true */
  rejoin?: boolean | undefined
  /**
   * Called for each peer that is a member; again, after a growing pause, when it rejects. The signal aborts when the peer
   * goes while it is being connected.
   */
  connect?: ((peer: Node, signal: AbortSignal) => Promise<void>) | undefined
  /** Called for each peer that was connected and is no member any more, or when this node goes. */
  disconnect?: ((peer: Node) => void | Promise<void>) | undefined
}

const text = (atLeast: number) =>
  z
    .string({ error: 'expected a string' })
    .refine((value) => value.length >= atLeast, 'expected at least one character')
    .refine((value) => Buffer.byteLength(value) <= 1_024, 'expected at most 1,024 bytes of UTF-8')
    .refine((value) => value.isWellFormed() && !value.includes('\0'), 'expected well-formed Unicode without NUL')
const durationMs = (atLeast: number) =>
  z
    .number({ error: 'expected milliseconds as a number' })
    .int('expected whole milliseconds')
    .min(atLeast, `expected at least ${atLeast} ms`)
    .max(86_400_000, 'expected at most a day, 86,400,000 ms')
const callback = z.custom<(...args: never[]) => unknown>((value) => typeof value === 'function', 'expected a function')

const schema = z
  .strictObject({
    pool: z.custom<PgPool>().optional(),
    cluster: text(1),
    schema: text(1).default('coordination'),
    connectionString: text(1).optional(),
    listen: z
      .custom<DirectConnection | false>(
        (value) => value === false || ['string', 'object', 'function'].includes(typeof value),
        'expected a connection string, connection settings, a function that gives them, or false',
      )
      .optional(),
    node: z.strictObject(
      {
        id: text(1).default(() => randomUUID()),
        name: text(0),
        address: text(0).optional(),
        metadata: z.unknown().optional(),
      },
      "expected an object such as { name: 'web-1' }",
    ),
    heartbeatMs: durationMs(50).default(2_000),
    ttlMs: durationMs(150).default(8_000),
    rejoin: z.boolean({ error: 'expected true or false' }).default(true),
    connect: callback.optional(),
    disconnect: callback.optional(),
    ...observabilityOptions,
  })
  .refine(({ heartbeatMs, ttlMs }) => ttlMs >= 3 * heartbeatMs, {
    path: ['ttlMs'],
    error: 'expected at least three times heartbeatMs, so that one late beat throws nobody out',
  })

/** Options with every default filled in. */
export interface ResolvedOptions {
  readonly cluster: string
  readonly schema: string
  readonly node: {
    readonly id: string
    readonly name: string
    readonly address: string | null
    readonly metadata: Metadata
  }
  readonly heartbeatMs: number
  readonly ttlMs: number
  /** Between two looks of the sweeper: one a second at the default ttl. */
  readonly sweepMs: number
  /** A sweeper that has not looked for so long is replaced. */
  readonly leaseMs: number
  readonly rejoin: boolean
}

/** @throws {ConfigurationError} naming the option, what was expected and what was got */
export function resolveOptions(options: ClusterDiscoveryOptions): ResolvedOptions {
  const {
    pool,
    node,
    cluster,
    schema: name,
    heartbeatMs,
    ttlMs,
    rejoin,
  } = parseOptions(schema, options, 'createClusterDiscovery')
  checkPool(pool, 'createClusterDiscovery')
  const sweepMs = Math.min(1_000, ttlMs / 8)
  return {
    cluster,
    schema: name,
    node: {
      id: node.id,
      name: node.name,
      address: node.address ?? null,
      metadata: checkMetadata(node.metadata ?? {}, 'node.metadata'),
    },
    heartbeatMs,
    ttlMs,
    sweepMs,
    leaseMs: 3 * sweepMs,
    rejoin,
  }
}
