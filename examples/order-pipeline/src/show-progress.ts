import { setTimeout as delay } from 'node:timers/promises'
import type { Pool } from 'pg'
import type { Fleet } from './fleet.ts'
import { createProgress } from './progress.ts'
import type { Screen } from './screen.ts'

export interface ProgressDisplay {
  readonly pool: Pool
  readonly fleet: Fleet
  readonly screen: Screen
  elapsedMs(): number
  log(text: string): void
  fail(error: Error): void
}

const lookEveryMs = 200

export interface Shown extends AsyncDisposable {
  /** The leader that was announced last. */
  latestLeader(): string | null
  /** How long each takeover after a fault took, in milliseconds. */
  takeovers(): readonly number[]
}

/** Keeps the screen up to date and tells of each new leader, until it is disposed. */
export const showProgress = ({ pool, fleet, screen, elapsedMs, log, fail }: ProgressDisplay): Shown => {
  const stopping = new AbortController()
  const progress = createProgress(pool)
  let latestLeader: string | null = null
  const takeovers: number[] = []
  const watch = async (): Promise<void> => {
    while (!stopping.signal.aborted) {
      for (const { node, epoch, takeoverMs } of await progress.look()) {
        const took = takeoverMs === null ? '' : `, ${(takeoverMs / 1_000).toFixed(2)} s after the fault`
        latestLeader = node
        if (takeoverMs !== null) takeovers.push(takeoverMs)
        log(`${node} handled its first batch as the leader of epoch ${epoch}${took}`)
      }
      screen.show({ elapsedMs: elapsedMs(), replicas: fleet.replicas, load: fleet.load, ...progress.figures() })
      await delay(lookEveryMs, undefined, { signal: stopping.signal }).catch(() => {})
    }
  }
  const watched = watch().catch(fail)
  return {
    latestLeader: () => latestLeader,
    takeovers: () => takeovers,
    async [Symbol.asyncDispose]() {
      stopping.abort()
      await watched
    },
  }
}
