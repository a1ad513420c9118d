import { z } from 'zod'

/** What one process of the simulation hosts. */
export interface HostSettings {
  readonly url: string
  readonly cluster: string
  readonly prefix: string
  readonly nodes: number
  readonly listen: boolean
  /** Connections that its nodes share. */
  readonly pool: number
}

export const hostSettings: z.ZodType<HostSettings> = z.object({
  url: z.string(),
  cluster: z.string(),
  prefix: z.string(),
  nodes: z.number(),
  listen: z.boolean(),
  pool: z.number(),
})
/** `record`: report from now on when all nodes of this process have seen a change of a node. */
export type HostCommand = { readonly do: 'record' } | { readonly do: 'close' }

export const hostCommand: z.ZodType<HostCommand> = z.discriminatedUnion('do', [
  z.object({ do: z.literal('record') }),
  z.object({ do: z.literal('close') }),
])

export type HostMessage =
  | { readonly kind: 'joined' }
  /** All nodes of this process have seen it; `at` is when the last one did, in microseconds of the machine. */
  | { readonly kind: 'seen'; readonly change: 'join' | 'leave' | 'down'; readonly id: string; readonly at: number }
  /** A node of this process has heard of a death, the first one to do so. */
  | { readonly kind: 'down'; readonly id: string }
  /** Notifications that arrived in this process since it started. */
  | { readonly kind: 'heard'; readonly notifications: number }

export const hostMessage: z.ZodType<HostMessage> = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('joined') }),
  z.object({ kind: z.literal('seen'), change: z.enum(['join', 'leave', 'down']), id: z.string(), at: z.number() }),
  z.object({ kind: z.literal('down'), id: z.string() }),
  z.object({ kind: z.literal('heard'), notifications: z.number() }),
])
