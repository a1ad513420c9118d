import { monotonicNow } from '@x/lock-core/adapter'
import type { ListenerOptions } from '@x/pg-session'
import type { SharedMemoryBudget } from '../memory-budget.ts'
import type { ResolvedOptions } from '../options.ts'
import type { SessionLocks } from '../session-locks.ts'
import { Bell } from './bell.ts'
import { Blocking } from './blocking.ts'
import { Outage } from './outage.ts'
import { Seats } from './seats.ts'
import { Sleeping } from './sleeping.ts'
import type { Waiting, WaitingContext } from './waiting.ts'

/** What a way of waiting is made of. */
export interface WaitingParts {
  readonly options: ResolvedOptions
  readonly listener: Omit<ListenerOptions, 'onNotification' | 'onResync'>
  readonly gate: bigint
  readonly channel: string
  readonly budget: SharedMemoryBudget
  readonly session: () => Promise<SessionLocks>
  readonly openSeat: () => Promise<SessionLocks>
}

/** The way of waiting that the options ask for. */
export function createWaiting(parts: WaitingParts): Waiting {
  const { options, gate, budget, channel } = parts
  const context: WaitingContext = {
    session: parts.session,
    pollMs: options.pollMs,
    outage: new Outage(monotonicNow),
  }
  const bell = options.wait === 'poll' ? null : new Bell(parts.listener, { channel, idleMs: options.idleMs })
  const sleeping = new Sleeping(context, budget, gate, bell)
  if (options.wait !== 'server') return sleeping
  const seats = new Seats(parts.openSeat, options.maxConnections - 1, options.idleMs)
  return new Blocking(context, seats, sleeping, options.detectMs)
}
