import { z } from 'zod'

export const nodeSettings = z.object({
  url: z.string(),
  cluster: z.string(),
  id: z.string(),
  listen: z.boolean(),
  heartbeatMs: z.number(),
  ttlMs: z.number(),
  clockShiftMs: z.number(),
})
export type NodeSettings = z.infer<typeof nodeSettings>

export const nodeCommand = z.discriminatedUnion('do', [
  z.object({ do: z.literal('close') }),
  z.object({ do: z.literal('view'), number: z.number() }),
])

const seenNode = z.object({ id: z.string(), incarnation: z.string(), state: z.string() })

export const nodeMessage = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('joined'), incarnation: z.string() }),
  z.object({ kind: z.literal('closed') }),
  z.object({
    kind: z.literal('event'),
    at: z.number(),
    event: z.discriminatedUnion('type', [
      z.object({ type: z.literal('snapshot'), version: z.string(), nodes: z.array(seenNode) }),
      z.object({ type: z.enum(['join', 'update', 'leave', 'down']), version: z.string(), node: seenNode }),
    ]),
  }),
  z.object({ kind: z.literal('other'), at: z.number(), type: z.string(), cause: z.string() }),
  z.object({
    kind: z.literal('view'),
    number: z.number(),
    self: z.string(),
    version: z.string(),
    nodes: z.array(seenNode),
  }),
])
export type NodeMessage = z.infer<typeof nodeMessage>
