import { z } from 'zod'
import { readMetadata } from './metadata.ts'
import type { NodeRecord } from './node.ts'
import type { Reading } from './view.ts'

const bigint = z
  .string()
  .regex(/^\d{1,19}$/)
  .transform(BigInt)
const downCause = z.enum(['ttl', 'crash', 'replaced'])

/** A node as `record()` in sql-fragments.ts writes it. */
const recordSchema = z
  .tuple([
    z.string(),
    bigint,
    z.string(),
    z.string().nullable(),
    z.unknown(),
    z.enum(['joining', 'up', 'leaving', 'left', 'down']),
    downCause.nullable(),
    bigint,
    z.number(),
    bigint.nullable(),
    z.union([z.literal('left'), downCause]).nullable(),
    bigint,
  ])
  .transform(
    ([
      id,
      incarnation,
      name,
      address,
      metadata,
      state,
      cause,
      version,
      joinedAt,
      formerly,
      end,
      lastDeath,
    ]): NodeRecord => ({
      node: Object.freeze({
        id,
        incarnation,
        name,
        address,
        metadata: readMetadata(metadata),
        state,
        joinedAt: new Date(joinedAt),
        version,
      }),
      cause,
      previous: formerly === null || end === null ? null : { incarnation: formerly, end },
      lastDeath,
    }),
  )

const announcementSchema = z.object({ v: bigint, n: z.array(recordSchema).optional() })

/** What a notification said: the new version, and what changed when it fitted in. */
export interface Announcement {
  readonly version: bigint
  readonly records: readonly NodeRecord[] | null
}

/** Null for a payload that is not ours: channels are open to everybody. */
export function parseAnnouncement(payload: string): Announcement | null {
  const parsed = announcementSchema.safeParse(jsonOf(payload))
  return parsed.success ? { version: parsed.data.v, records: parsed.data.n ?? null } : null
}

export const parseRecord = (answer: string): NodeRecord => recordSchema.parse(JSON.parse(answer))

/** As sql-fragments.ts names a server. */
const server = z.string().min(1)

const readingSchema = z.tuple([bigint, z.boolean(), z.array(recordSchema), bigint, server])

/** What was read, and on which server. */
export type ServerReading = Reading & { readonly server: string }

export const parseReading = (answer: string): ServerReading => {
  const [version, full, records, prunedDeath, on] = readingSchema.parse(JSON.parse(answer))
  return full
    ? { version, scope: 'full', records, prunedDeath, server: on }
    : { version, scope: 'delta', records, server: on }
}

/** Who sweeps, as of a beat. */
export interface SweeperSeen {
  readonly id: string
  readonly incarnation: bigint
  readonly epoch: bigint
}

/** Whether the dead are looked for. */
export interface Sweeping {
  readonly sweeper: SweeperSeen | null
  /** Nobody sweeps, or whoever did has stopped. */
  readonly isWanted: boolean
}

/** What a member learns from a beat. */
export interface BeatAnswer {
  readonly version: bigint
  /** Which server has that version. */
  readonly server: string
  /** Null when the beat did not ask. */
  readonly sweeping: Sweeping | null
}

const beatSchema = z.tuple([bigint, z.string().nullable(), bigint.nullable(), bigint.nullable(), z.boolean(), server])

export const parseBeat = (answer: string): BeatAnswer => {
  const [version, id, incarnation, epoch, isWanted, on] = beatSchema.parse(JSON.parse(answer))
  const sweeper = id === null || incarnation === null || epoch === null ? null : { id, incarnation, epoch }
  return { version, server: on, sweeping: { sweeper, isWanted } }
}

const quietBeatSchema = z.tuple([bigint, server])

export const parseQuietBeat = (answer: string): BeatAnswer => {
  const [version, on] = quietBeatSchema.parse(answer.split(' '))
  return { version, server: on, sweeping: null }
}

const fateSchema = z.tuple([bigint, z.string()])

export const parseFate = (answer: string): { readonly incarnation: bigint; readonly state: string } => {
  const [incarnation, state] = fateSchema.parse(JSON.parse(answer))
  return { incarnation, state }
}

/** A member that a look found silent or without its marker. */
export interface Suspect {
  readonly id: string
  readonly incarnation: bigint
  /** Its last beat, in microseconds of the database's clock; compared, never calculated with. */
  readonly lastBeat: string
  /** Older than the node's ttl. */
  readonly stale: boolean
  /** Its connection held a marker, and the server has dropped it. */
  readonly gone: boolean
}

export interface Look {
  readonly members: number
  /** Members silent for half their ttl, or without the marker they had. */
  readonly doubtful: number
  /** Since the server started, milliseconds. */
  readonly uptimeMs: number
  readonly suspects: readonly Suspect[]
}

const lookSchema = z.tuple([
  z.number(),
  z.number(),
  z.number(),
  z.array(z.tuple([z.string(), bigint, z.string(), z.boolean(), z.boolean()])),
])

export const parseLook = (answer: string): Look => {
  const [members, doubtful, uptimeMs, suspects] = lookSchema.parse(JSON.parse(answer))
  return {
    members,
    doubtful,
    uptimeMs,
    suspects: suspects.map(([id, incarnation, lastBeat, stale, gone]) => ({ id, incarnation, lastBeat, stale, gone })),
  }
}

/** A standby's look at the sweeper. */
export interface SweeperLook {
  readonly epoch: bigint
  readonly gone: boolean
  readonly lastBeat: string
}

const sweeperLookSchema = z.tuple([bigint, z.boolean(), z.string()])

export const parseSweeperLook = (answer: string): SweeperLook => {
  const [epoch, gone, lastBeat] = sweeperLookSchema.parse(JSON.parse(answer))
  return { epoch, gone, lastBeat }
}

const deadSchema = z.array(z.tuple([z.string(), bigint]))

export const parseDead = (answer: string): readonly { readonly id: string; readonly incarnation: bigint }[] =>
  deadSchema.parse(JSON.parse(answer)).map(([id, incarnation]) => ({ id, incarnation }))

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
