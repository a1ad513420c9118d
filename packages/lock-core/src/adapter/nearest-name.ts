/**
 * The one of `names` that was probably meant by `name`, capitals aside: the fewest letters away, and no more than a third of
 * its letters; or else one of which it is a part (`ttl`, `timeout`), or that is a part of it. Null when none is near.
 */
export function nearestName(name: string, names: readonly string[]): string | null {
  return nearestByLetters(name, names) ?? nearestByPart(name, names)
}

function nearestByLetters(name: string, names: readonly string[]): string | null {
  let nearest: string | null = null
  // A name of any length may come from plain JavaScript; nobody mistypes a hundred letters.
  let fewest = Math.min(Math.ceil(name.length / 3), 10)
  for (const candidate of names) {
    const away = distance(name.toLowerCase(), candidate.toLowerCase(), fewest)
    if (away > fewest || (away === fewest && nearest !== null)) continue
    fewest = away
    nearest = candidate
  }
  return nearest
}

/** Shorter parts, and smaller ones, are in a name by chance. */
const shortestPart = 3

function nearestByPart(name: string, names: readonly string[]): string | null {
  let nearest: string | null = null
  let fewest = Number.POSITIVE_INFINITY
  for (const candidate of names) {
    const [part, whole] = candidate.length < name.length ? [candidate, name] : [name, candidate]
    const more = whole.length - part.length
    if (part.length < shortestPart || more > 2 * part.length || more >= fewest) continue
    if (!whole.toLowerCase().includes(part.toLowerCase())) continue
    fewest = more
    nearest = candidate
  }
  return nearest
}

/** Letters to insert, remove or exchange (Levenshtein); anything above `limit` when it is more than that. */
function distance(one: string, other: string, limit: number): number {
  if (Math.abs(one.length - other.length) > limit) return limit + 1
  let row = Array.from({ length: other.length + 1 }, (_, index) => index)
  for (const [index, letter] of [...one].entries()) {
    const next = [index + 1]
    for (const [column, its] of [...other].entries()) {
      const replaced = (row[column] ?? 0) + (letter === its ? 0 : 1)
      next.push(Math.min(replaced, (row[column + 1] ?? 0) + 1, (next[column] ?? 0) + 1))
    }
    row = next
  }
  return row[other.length] ?? limit + 1
}
