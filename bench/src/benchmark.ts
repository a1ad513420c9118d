import type { Surroundings } from './surroundings.ts'

/** The figures of one round of one contender, by name: `p50Us`, `perSecond`, `heapBytes`, … */
export type Figures = Readonly<Record<string, number>>

/** One way of doing the work of a row: the floor, ours, or a peer. */
export interface Contender {
  /** Opens what the rounds need, does the work once to warm up, and gives the function that runs one round. */
  open(surroundings: Surroundings): Promise<OpenContender>
}
export interface OpenContender {
  round(): Promise<Figures>
  close(): Promise<void>
}

/**
 * What must hold: a figure of `of` (divided by the same figure of `against`, in the same round) within a bound. Without a bound
 * it is a comparison: shown beside the targets, and never missed.
 */
export interface Target {
  readonly of: string
  readonly figure: string
  /** Without it the figure itself is bounded, not a ratio. */
  readonly against?: string
  readonly atMost?: number
  readonly atLeast?: number
}

/** One row of `docs/design/performance.md`: the same work done by several contenders in interleaved rounds. */
export interface Row {
  readonly id: string
  readonly work: string
  /** What the floor is made of: the bare round trips that the work cannot avoid. */
  readonly floor: string
  /** @default 7 */
  readonly rounds?: number
  readonly contenders: Readonly<Record<string, Contender>>
  readonly targets: readonly Target[]
}

/** One file of `bench/src/`, run by `pnpm bench <name>`. */
export interface Benchmark {
  readonly name: string
  readonly title: string
  /** Server settings besides the durable defaults, such as `max_connections`. */
  readonly settings?: Readonly<Record<string, string>>
  rows(surroundings: Surroundings): readonly Row[] | Promise<readonly Row[]>
}

/** A contender that cannot run here says why; the table shows the reason in place of a figure. */
export class NotAvailable extends Error {}
