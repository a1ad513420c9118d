import type { Taken } from './endpoint.ts'

/** What was committed: each change of each sale, as its writer noted it. */
export interface Change {
  readonly sale: string
  readonly revision: number
}

export interface Report {
  readonly changes: number
  readonly taken: number
  /** Webhooks that came more than once, all with the same key as the first time. */
  readonly duplicates: number
  /** Broken promises, one line each. */
  readonly violations: readonly string[]
}

const name = ({ sale, revision }: Change): string => `sale ${sale}, revision ${revision}`

/**
 * Compares what was committed with what the endpoint took: each change at least once, a change and its key belong to each
 * other, and the first deliveries of the changes of one sale are in order.
 */
export const report = (changes: readonly Change[], taken: readonly Taken[]): Report => {
  const violations: string[] = []
  const keys = new Map<string, string>()
  const changeOf = new Map<string, string>()
  const highest = new Map<string, number>()
  let duplicates = 0
  for (const delivery of taken) {
    const change = name(delivery)
    const key = keys.get(change)
    if (key !== undefined) {
      if (key === delivery.key) duplicates += 1
      else violations.push(`${change} came again with another key: ${key}, then ${delivery.key}`)
      continue
    }
    keys.set(change, delivery.key)
    const other = changeOf.get(delivery.key)
    if (other !== undefined) violations.push(`key ${delivery.key} stands for ${other} and for ${change}`)
    changeOf.set(delivery.key, change)
    const before = highest.get(delivery.sale) ?? 0
    if (delivery.revision < before) violations.push(`${change} came after revision ${before}`)
    highest.set(delivery.sale, Math.max(before, delivery.revision))
  }
  const committed = new Set(changes.map(name))
  for (const change of committed) if (!keys.has(change)) violations.push(`${change} never came`)
  for (const change of keys.keys())
    if (!committed.has(change)) violations.push(`${change} came and was never committed`)
  return { changes: committed.size, taken: taken.length, duplicates, violations }
}
