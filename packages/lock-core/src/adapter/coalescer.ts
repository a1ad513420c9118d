import { createBatchLine } from './batch-line.ts'

/** Collects operations into statements. */
export interface Coalescer<Operation, Result> {
  /** Sends the operation with the next statement; settles with its own result. */
  submit(operation: Operation): Promise<Result>
  /** Operations that wait for a statement to leave. */
  readonly queued: number
  /** Resolves when nothing is queued and nothing is in flight. */
  idle(): Promise<void>
}

/** How operations become statements. */
export interface CoalescerOptions<Operation, Result> {
  /**
   * Sends one statement for all of `batch` and resolves to one result per operation, in their order. A rejection rejects
   * every operation of the batch; an outcome that is one operation's own belongs into its result.
   */
  run(batch: readonly Operation[]): Promise<readonly Result[]>
  /** @default 10_000 */
  maxBatch?: number | undefined
  /**
   * Operations with one identity never share a statement and keep their order: the second waits for the first to be over.
   * @default no two operations are related
   */
  identityOf?: ((operation: Operation) => string) | undefined
}

/**
 * {@link createBatchLine} with a result for each operation: makes one statement of all operations that are issued while
 * another statement is in flight.
 *
 * @example
 * const unlocks = createCoalescer({ run: (ids: readonly bigint[]) => session.unlock(ids) })
 * await unlocks.submit(42n)
 */
export function createCoalescer<Operation, Result>(
  options: CoalescerOptions<Operation, Result>,
): Coalescer<Operation, Result> {
  const { run, maxBatch, identityOf } = options
  const line = createBatchLine<Pending<Operation, Result>>({
    maxBatch,
    identityOf: identityOf === undefined ? undefined : ({ operation }) => identityOf(operation),
    async run(batch) {
      const results = await run(batch.map(({ operation }) => operation))
      if (results.length !== batch.length) {
        throw new TypeError(
          `a batch of ${batch.length} operations got ${results.length} results; run() owes one for each`,
        )
      }
      let index = 0
      for (const result of results) {
        const pending = batch[index]
        if (pending !== undefined) pending.answer = { result }
        index += 1
      }
    },
  })
  return {
    async submit(operation) {
      const pending: Pending<Operation, Result> = { operation, answer: null }
      await line.join(pending)
      if (pending.answer === null) throw new TypeError('an operation was sent and not answered')
      return pending.answer.result
    },
    get queued() {
      return line.queued
    },
    idle: () => line.idle(),
  }
}

interface Pending<Operation, Result> {
  readonly operation: Operation
  answer: { readonly result: Result } | null
}
