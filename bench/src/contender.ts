import type { Contender, Figures } from './benchmark.ts'
import type { Surroundings } from './surroundings.ts'

/** A contender from its parts: what it opens, one round with it, and how to close it. Warms up with one round. */
export const contender = <Resource>(parts: {
  open(surroundings: Surroundings): Promise<Resource>
  round(resource: Resource): Promise<Figures>
  close(resource: Resource): Promise<void>
}): Contender => ({
  async open(surroundings) {
    const resource = await parts.open(surroundings)
    try {
      await parts.round(resource)
    } catch (error) {
      await parts.close(resource)
      throw error
    }
    return { round: () => parts.round(resource), close: () => parts.close(resource) }
  },
})
