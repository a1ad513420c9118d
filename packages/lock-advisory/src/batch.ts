import type { Row, Statement } from '@x/pg-session'
import { type LockStatements, type Step, step } from './statements.ts'

/** One operation on one id, as it stands in line for the next statement. */
export interface Operation {
  readonly step: Step
  /** The lock's id in decimal. */
  readonly id: string
  /** Written when the statement has answered; null where the operation did not succeed. */
  outcome: Outcome | null
}

/** What one statement did, shared by all its operations that succeeded. */
export interface Outcome {
  /** Drawn after the last grant of the statement; null without fencing. */
  readonly token: bigint | null
  /** Instant on the monotonic clock before the statement was sent. */
  readonly sentAt: number
  /** Milliseconds since the Unix epoch, when the answer was there. */
  readonly answeredAtMs: number
  /** Operations in the statement. */
  readonly size: number
  /** Ids that were freed while somebody in another session waits for them. */
  readonly woken: ReadonlySet<string> | null
}

/** A batch as a statement with its values. */
export interface EncodedBatch {
  readonly statement: Statement
  readonly values: readonly string[]
}

/**
 * Picks the leanest statement that does the batch. Most batches are of one kind, and the two kinds that a single caller
 * pays for, exclusive acquire and release, have statements of their own.
 */
export function encodeBatch(batch: readonly Operation[], statements: LockStatements): EncodedBatch {
  const [first] = batch
  if (first !== undefined && batch.length === 1) {
    if (first.step === step.tryExclusive) return { statement: statements.acquireOne, values: [first.id] }
    if (first.step === step.unlockExclusive) return { statement: statements.releaseOne, values: [first.id] }
  }
  let ids = ''
  let uniform = true
  for (const operation of batch) {
    ids += ids === '' ? operation.id : `,${operation.id}`
    if (operation.step !== first?.step) uniform = false
  }
  ids = `{${ids}}`
  if (uniform && first?.step === step.tryExclusive) return { statement: statements.acquire, values: [ids] }
  if (uniform && first?.step === step.unlockExclusive) return { statement: statements.release, values: [ids] }
  return {
    statement: statements.exchange,
    values: [ids, `{${batch.map((operation) => operation.step).join(',')}}`],
  }
}

/** Writes on each operation what became of it. */
export function decodeBatch(
  batch: readonly Operation[],
  statement: Statement,
  statements: LockStatements,
  row: Row | undefined,
  times: { readonly sentAt: number; readonly answeredAtMs: number },
): void {
  if (row === undefined) throw new TypeError(`statement ${statement.name} gave no row`)
  if (statement === statements.release || statement === statements.releaseOne) {
    const [strange, woken] = row
    const outcome: Outcome = { token: null, ...times, size: batch.length, woken: parseIds(woken) }
    const unknown = parseIds(strange)
    for (const operation of batch) operation.outcome = unknown?.has(operation.id) ? null : outcome
    return
  }
  const [oks, token, woken] = row
  const outcome: Outcome = {
    token: typeof token === 'string' ? BigInt(token) : null,
    ...times,
    size: batch.length,
    woken: parseIds(woken),
  }
  if (typeof oks !== 'string' || oks.length !== 2 * batch.length + 1) {
    throw new TypeError(`statement ${statement.name} gave ${String(oks)} for ${batch.length} operations`)
  }
  // '{t,f,t}': the letter of operation n stands at 2n + 1.
  let position = 1
  for (const operation of batch) {
    operation.outcome = oks.charCodeAt(position) === letterT ? outcome : null
    position += 2
  }
}

const letterT = 116

function parseIds(list: unknown): ReadonlySet<string> | null {
  return typeof list === 'string' && list.length > 2 ? new Set(list.slice(1, -1).split(',')) : null
}

/**
 * Two grants of one id in one statement would get one token (shared mode only: nothing else gives an id twice). Splits
 * off what has to go into a statement of its own.
 */
export function splitRepeatedTries(batch: readonly Operation[]): readonly (readonly Operation[])[] {
  if (!batch.some((operation) => operation.step === step.tryShared)) return [batch]
  const parts: Operation[][] = []
  const seen = new Map<string, number>()
  let from = 0
  for (const operation of batch) {
    if (operation.step === step.tryShared) {
      from = Math.max(from, seen.get(operation.id) ?? 0)
      seen.set(operation.id, from + 1)
    }
    const part = parts[from]
    if (part === undefined) parts.push([operation])
    else part.push(operation)
  }
  return parts
}
