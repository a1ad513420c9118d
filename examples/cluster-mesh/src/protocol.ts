import { z } from 'zod'

/** What a node of the mesh tells the terminal. */
export interface Topology {
  readonly id: string
  readonly members: readonly string[]
  readonly links: readonly string[]
  /** Keys that this node owns now. */
  readonly owned: readonly string[]
  /** Keys that it has handled, for itself and for others, since it started. */
  readonly handled: number
}

export const topology: z.ZodType<Topology> = z.object({
  id: z.string(),
  members: z.array(z.string()),
  links: z.array(z.string()),
  owned: z.array(z.string()),
  handled: z.number(),
})

/** The work that the nodes share. */
export const keys: readonly string[] = Array.from({ length: 24 }, (_, index) => `room-${index + 1}`)
