import type { SeenEvent, SeenNode } from '@x/testkit'
import { z } from 'zod'

export interface NodeSettings {
  readonly url: string
  readonly cluster: string
  readonly id: string
  readonly listen: boolean
  readonly heartbeatMs: number
  readonly ttlMs: number
  readonly clockShiftMs: number
}

export const nodeSettings: z.ZodType<NodeSettings> = z.object({
  url: z.string(),
  cluster: z.string(),
  id: z.string(),
  listen: z.boolean(),
  heartbeatMs: z.number(),
  ttlMs: z.number(),
  clockShiftMs: z.number(),
})
export type NodeCommand = { readonly do: 'close' } | { readonly do: 'view'; readonly number: number }

export const nodeCommand: z.ZodType<NodeCommand> = z.discriminatedUnion('do', [
  z.object({ do: z.literal('close') }),
  z.object({ do: z.literal('view'), number: z.number() }),
])

const seenNode: z.ZodType<SeenNode> = z.object({ id: z.string(), incarnation: z.string(), state: z.string() })

export type NodeMessage =
  | { readonly kind: 'joined'; readonly incarnation: string }
  | { readonly kind: 'closed' }
  | { readonly kind: 'event'; readonly at: number; readonly event: SeenEvent }
  | { readonly kind: 'other'; readonly at: number; readonly type: string; readonly cause: string }
  | {
      readonly kind: 'view'
      readonly number: number
      readonly self: string
      readonly version: string
      readonly nodes: readonly SeenNode[]
    }

export const nodeMessage: z.ZodType<NodeMessage> = z.discriminatedUnion('kind', [
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
