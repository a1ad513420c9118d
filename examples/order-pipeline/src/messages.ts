import { z } from 'zod'

/** What a replica is told when it is started. */
export const nodeSettings = z.object({ name: z.string(), url: z.string(), leaseMs: z.number() })
export type NodeSettings = z.infer<typeof nodeSettings>

/** What a replica of the index is told when it is started. */
export const indexerSettings = z.object({ name: z.string(), url: z.string() })

/** What the load generator is told when it is started. */
export const loadSettings = z.object({ url: z.string(), rate: z.number(), connections: z.number() })
export type LoadSettings = z.infer<typeof loadSettings>

/** What a replica says of itself, four times a second. */
export const nodeStatus = z.object({
  type: z.literal('node'),
  /** Who is in the cluster, as this replica sees it. */
  members: z.array(z.object({ name: z.string(), state: z.string() })),
  viewVersion: z.bigint(),
  input: z.enum(['stopped', 'standby', 'leading', 'halted', 'gap']),
  epoch: z.bigint().nullable(),
  /** How far the effects are behind the changes, measured against the log. */
  lag: z.object({ events: z.number(), oldestMs: z.number() }).nullable(),
  jobRuns: z.number(),
})
export type NodeStatus = z.infer<typeof nodeStatus>

/** Something that a replica saw. `once` is the same in every replica that saw the same thing, null where only one can. */
export const nodeNote = z.object({ type: z.literal('note'), text: z.string(), once: z.string().nullable() })
export type NodeNote = z.infer<typeof nodeNote>

/** What the load generator has done so far. */
export const loadStatus = z.object({
  type: z.literal('load'),
  committed: z.number(),
  rolledBack: z.number(),
  rolledBackToSavepoint: z.number(),
  long: z.number(),
})
export type LoadStatus = z.infer<typeof loadStatus>

export const childMessage = z.discriminatedUnion('type', [nodeStatus, nodeNote, loadStatus])
export type ChildMessage = z.infer<typeof childMessage>
