/** A change as the writer recorded it in its own transaction, or an effect as the handler did. */
export interface FeedEntry {
  readonly table: string
  readonly id: string
  /** Counts the changes of a row in the order in which they were made. */
  readonly revision: number
}

const nameOf = ({ table, id, revision }: FeedEntry): string => `${table} ${id} revision ${revision}`

/**
 * Compares what was committed with what was done about it, in the order in which it was done: each change exactly once,
 * and those of a row in the row's order.
 */
export const feedViolations = (changes: readonly FeedEntry[], effects: readonly FeedEntry[]): readonly string[] => {
  const violations: string[] = []
  const committed = new Set(changes.map(nameOf))
  const done = new Set<string>()
  const last = new Map<string, number>()
  for (const effect of effects) {
    const name = nameOf(effect)
    if (done.has(name)) violations.push(`${name}: handled twice`)
    if (!committed.has(name)) violations.push(`${name}: handled, but never committed`)
    done.add(name)
    const row = `${effect.table} ${effect.id}`
    const before = last.get(row) ?? 0
    if (effect.revision < before) violations.push(`${name}: handled after revision ${before}`)
    last.set(row, Math.max(before, effect.revision))
  }
  for (const name of committed) if (!done.has(name)) violations.push(`${name}: committed, but not handled`)
  return violations
}
