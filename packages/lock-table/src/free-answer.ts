import { z } from 'zod'
import { plainElements } from './array-literal.ts'

const names = z.array(z.string())

/** What the statements for many free keys answer: `all`, or the keys that were granted; their tokens; the time of it. */
export type FreeAnswer = readonly [granted: string | null, tokens: string | null, acquiredAtMs: string]

/** The token of each key that was asked for; undefined for one that was not granted. */
export const tokensFor = (keys: readonly string[], [granted, tokens]: FreeAnswer): readonly (string | undefined)[] => {
  const numbers = plainElements(tokens)
  // The server has compared: they stand in the order of the keys.
  if (granted === 'all') return numbers
  if (granted === null) return []
  const byKey = new Map(names.parse(JSON.parse(granted)).map((key, index) => [key, numbers[index]]))
  return keys.map((key) => {
    const token = byKey.get(key)
    // Of two who ask for one key, one has it.
    byKey.delete(key)
    return token
  })
}
