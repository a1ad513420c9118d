import type { Operation } from './batch.ts'
import { step } from './statements.ts'

interface Entry {
  /** Announcements that were answered, and not withdrawn since. */
  stands: number
  /** A statement failed that announced or withdrew: the server may count more than stands. */
  isDoubtful: boolean
}

/**
 * How often a session has announced its interest in an id. The server counts, and does not tell how far. What a failed
 * statement may have left behind can therefore be taken back only when nothing else stands under the id.
 */
export class InterestLedger {
  readonly #entries = new Map<string, Entry>()

  /**
   * The operations were answered.
   * @returns ids in which nobody here is interested any more, and of which the server may count more
   */
  answered(batch: readonly Operation[]): string[] {
    const withdrawn: string[] = []
    for (const { step: kind, id, outcome } of batch) {
      if (outcome === null) continue
      if (kind === step.announce) this.#entry(id).stands += 1
      else if (kind === step.withdraw) {
        this.#entry(id).stands -= 1
        withdrawn.push(id)
      }
    }
    // Not before: who is interested next may have announced it in the same statement.
    return this.#end(withdrawn)
  }

  /** The operations failed, and whoever asked for one is told so: which of them ran is not known. Returns the same. */
  failed(batch: readonly Pick<Operation, 'step' | 'id'>[]): string[] {
    const doubtful: string[] = []
    for (const { step: kind, id } of batch) {
      if (kind !== step.announce && kind !== step.withdraw) continue
      const entry = this.#entry(id)
      entry.isDoubtful = true
      if (kind === step.withdraw) entry.stands -= 1
      doubtful.push(id)
    }
    return this.#end(doubtful)
  }

  #entry(id: string): Entry {
    let entry = this.#entries.get(id)
    if (entry === undefined) {
      entry = { stands: 0, isDoubtful: false }
      this.#entries.set(id, entry)
    }
    return entry
  }

  #end(ids: readonly string[]): string[] {
    return ids.filter((id) => {
      const entry = this.#entries.get(id)
      if (entry === undefined || entry.stands > 0) return false
      this.#entries.delete(id)
      return entry.isDoubtful
    })
  }
}
