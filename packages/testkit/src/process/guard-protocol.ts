import { z } from 'zod'

export const guardRequest = z.object({
  /** Removed at the end. */
  directory: z.string(),
  program: z.string(),
  args: z.array(z.string()),
  logFile: z.string(),
  user: z.object({ uid: z.number(), gid: z.number() }).nullable(),
})
export type GuardRequest = z.infer<typeof guardRequest>

export const guardReply = z.union([z.object({ pid: z.number() }), z.object({ ended: z.string() })])
