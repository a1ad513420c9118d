import { Acquiring } from './acquiring.ts'
import { Admin } from './admin.ts'
import { Contention } from './contention.ts'
import { Failover } from './failover.ts'
import { Granting } from './granting.ts'
import { Holding } from './holding.ts'
import { HandOff } from './line/hand-off.ts'
import { Line } from './line/line.ts'
import { Listening } from './line/wake-ups.ts'
import type { ResolvedTableLockerOptions } from './options.ts'
import type { Owners } from './owners.ts'
import { Releasing } from './releasing.ts'
import { Renewer } from './renewer.ts'
import { LockStore } from './store.ts'

/** What a table locker is made of. */
export interface Assembly {
  readonly store: LockStore
  readonly contention: Contention
  readonly granting: Granting
  readonly releasing: Releasing
  readonly line: Line
  readonly listening: Listening
  readonly acquiring: Acquiring
  readonly holding: Holding
  readonly admin: Admin
}

/** Makes the parts of a locker and makes them known to each other. */
export const assemble = (options: ResolvedTableLockerOptions, owners: Owners): Assembly => {
  const { sessionId } = owners
  const { logger, pollMs, claimMs, clockMarginMs, afterFailover } = options
  const acquirer = { name: options.name, address: options.address }
  const store = new LockStore(options)
  // Whoever is woken, and whoever hands off, stand on both sides of the line: each finds the other when it is needed.
  const listening = new Listening({
    listen: options.listen,
    pool: options.pool,
    connectionString: options.connectionString,
    name: `${options.schema}.${options.table}.${sessionId}`,
    logger,
    wake: (ticket) => line.wake(ticket),
    resync: () => line.resync(),
  })
  const failover = new Failover(store, { pollMs, afterFailover, logger })
  const line: Line = new Line(
    store,
    { sessionId, acquirer, pollMs, clockMarginMs },
    { handOff: () => handOff, wakeUps: listening, failover, logger },
  )
  const handOff = new HandOff(store, {
    sessionId,
    claimMs,
    clockMarginMs,
    afterFailover,
    logger,
    served: (ticket) => line.wake(ticket),
  })
  const releasing = new Releasing(store, owners.pattern, handOff, logger)
  const contention = new Contention(store, clockMarginMs)
  const granting = new Granting(store, contention, {
    acquirer,
    clockMarginMs,
    afterFailover,
    newOwner: () => owners.next(),
    forsaken: (requests) => {
      for (const { key, mode, owner } of requests) releasing.abandon({ key, mode, owner, token: null })
    },
  })
  return {
    store,
    contention,
    granting,
    releasing,
    line,
    listening,
    acquiring: new Acquiring({ granting, line, handOff, releasing, failover, logger }),
    holding: new Holding({ renewer: new Renewer(store, owners.pattern, logger), releasing, line, logger }),
    admin: new Admin(store, handOff),
  }
}
