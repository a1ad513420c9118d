import { type BatchLine, createBatchLine } from '@x/lock-core/adapter'

interface Lane<Operation> {
  readonly line: BatchLine<Operation>
  /** Operations that have not left yet. */
  waiting: number
}

/** How operations become statements. */
export interface LanesOptions<Operation> {
  /** Sends one statement for all of `batch` and writes on each operation what became of it. */
  run(batch: readonly Operation[]): Promise<void>
  /** As many fill a statement, which then need not wait for the one before it. */
  readonly fullAt: number
  /** Statements in flight at most, and with them connections. */
  readonly lanes: number
}

/**
 * Statements of many operations, several at a time when there is more to do than fills one: while the server works on the
 * first, the next is written and the one before is read. Few callers share one statement after the other, on one connection.
 */
export class Lanes<Operation> {
  readonly #fullAt: number
  readonly #lanes: Lane<Operation>[]

  constructor({ run, fullAt, lanes }: LanesOptions<Operation>) {
    this.#fullAt = fullAt
    this.#lanes = Array.from({ length: lanes }, () => {
      const lane: Lane<Operation> = {
        waiting: 0,
        line: createBatchLine({
          maxBatch: fullAt,
          run: (batch: readonly Operation[]) => {
            lane.waiting -= batch.length
            return run(batch)
          },
        }),
      }
      return lane
    })
  }

  /** Sends the operation with the next statement; settles as the statement does. Read the result from the operation. */
  join(operation: Operation): Promise<void> {
    let chosen: Lane<Operation> | undefined
    for (const lane of this.#lanes) {
      if (lane.waiting < this.#fullAt) {
        chosen = lane
        break
      }
      if (chosen === undefined || lane.waiting < chosen.waiting) chosen = lane
    }
    if (chosen === undefined) throw new RangeError('expected at least one lane')
    chosen.waiting += 1
    return chosen.line.join(operation)
  }

  /** Resolves when nothing waits and nothing is on its way. */
  async idle(): Promise<void> {
    while (this.#lanes.some(({ line }) => !line.isIdle)) await Promise.all(this.#lanes.map(({ line }) => line.idle()))
  }
}
