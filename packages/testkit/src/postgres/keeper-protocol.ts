import { z } from 'zod'

/** What the parent asks of the keeper, one message a request. */
export const keeperRequest = z.discriminatedUnion('type', [
  z.object({
    type: z.literal('start'),
    id: z.number(),
    root: z.string(),
    /** A running server whose copy this one becomes; without it, a new and empty one. */
    standbyOf: z.object({ url: z.string(), directory: z.string() }).optional(),
    settings: z.record(z.string(), z.union([z.string(), z.number(), z.boolean()])),
  }),
  z.object({ type: z.literal('stop'), id: z.number(), mode: z.enum(['fast', 'immediate']) }),
  z.object({ type: z.literal('resume'), id: z.number() }),
  z.object({ type: z.literal('keep'), id: z.number() }),
  z.object({ type: z.literal('close'), id: z.number() }),
])
export type KeeperRequest = z.infer<typeof keeperRequest>

export const keeperReply = z.object({
  id: z.number(),
  error: z.string().optional(),
  /** Only in the reply to `start`. */
  server: z.object({ url: z.string(), port: z.number(), pid: z.number(), directory: z.string() }).optional(),
})
export type KeeperReply = z.infer<typeof keeperReply>
