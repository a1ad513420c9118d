import { z } from 'zod'

/** What one process of the simulation hosts. */
export const hostSettings = z.object({
  url: z.string(),
  cluster: z.string(),
  prefix: z.string(),
  nodes: z.number(),
  listen: z.boolean(),
  pool: z.number(),
})
export type HostSettings = z.infer<typeof hostSettings>

export const hostCommand = z.discriminatedUnion('do', [
  /** Report from now on when all nodes of this process have seen a change of a node. */
  z.object({ do: z.literal('record') }),
  z.object({ do: z.literal('close') }),
])

export const hostMessage = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('joined') }),
  /** All nodes of this process have seen it; `at` is when the last one did, in microseconds of the machine. */
  z.object({ kind: z.literal('seen'), change: z.enum(['join', 'leave', 'down']), id: z.string(), at: z.number() }),
  /** Notifications that arrived in this process since it started. */
  z.object({ kind: z.literal('heard'), notifications: z.number() }),
])
export type HostMessage = z.infer<typeof hostMessage>
