import { commands, tell } from '@x/testkit'
import type { Pool } from 'pg'
import { z } from 'zod'

const command = z.discriminatedUnion('do', [
  z.object({ do: z.literal('finish') }),
  z.object({ do: z.literal('stall'), ms: z.number() }),
  z.object({ do: z.literal('shift-clock'), ms: z.number() }),
])

/** What every actor can say, besides what is its own. */
export const actorMessages = [
  z.object({ type: z.literal('ready') }),
  /** An operation failed with an error of ours, as operations may under faults. */
  z.object({ type: z.literal('failed'), operation: z.string(), code: z.string(), message: z.string() }),
  /** Something that must not happen whatever the fault. */
  z.object({ type: z.literal('broken'), what: z.string() }),
  /** How far the end has come, to say where it hangs. */
  z.object({ type: z.literal('stage'), stage: z.string() }),
  /** Everything is closed; what still holds the event loop by then. */
  z.object({ type: z.literal('closed'), resources: z.array(z.string()) }),
] as const

const realNow = Date.now
const RealDate = Date

/** Moves the wall clock of this process; ours must not care. */
const shiftClock = (ms: number): void => {
  const now = (): number => realNow() + ms
  const shifted = new Proxy(RealDate, {
    construct: (target, args, newTarget) => Reflect.construct(target, args.length === 0 ? [now()] : args, newTarget),
    get: (target, name, receiver) => (name === 'now' ? now : Reflect.get(target, name, receiver)),
  })
  globalThis.Date = ms === 0 ? RealDate : shifted
}

const stall = (ms: number): void => {
  const until = performance.now() + ms
  while (performance.now() < until);
}

/** Tells an error of ours by its code; anything else is told as broken. */
export const tellFailure = (operation: string, error: unknown): void => {
  const code = error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : null
  const ours = error instanceof Error && 'retryable' in error
  if (ours && code !== null) tell({ type: 'failed', operation, code, message: error.message })
  else
    tell({
      type: 'broken',
      what: `${operation}: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`,
    })
}

/**
 * Lets a pool of the actor itself go without waiting: behind a half-open line the goodbye of `pool.end()` is never
 * answered. What our packages open is theirs to close.
 */
export const dropPool = (pool: Pool): (() => void) => {
  const sockets = new Set<{ destroy(): void }>()
  pool.on('connect', (client) => sockets.add(client.connection.stream))
  return () => {
    void pool.end().catch(() => {})
    for (const socket of sockets) socket.destroy()
  }
}

/** Handles of the event loop that must be gone when everything is closed. */
const leftovers = (): string[] =>
  process.getActiveResourcesInfo().filter((resource) => resource === 'TCPSocketWrap' || resource === 'Timeout')

/**
 * Runs an actor: obeys the campaign's commands until it is told to finish, then closes and ends.
 *
 * @param start may go on trying until the signal says that it is over
 * @param close steps by name, in order; after them there must be no socket and no timer
 */
export const runActor = async (
  start: (over: AbortSignal) => Promise<void>,
  close: Readonly<Record<string, () => unknown>>,
): Promise<void> => {
  process.on('unhandledRejection', (error) => {
    tell({ type: 'broken', what: `unhandled rejection: ${error instanceof Error ? error.stack : String(error)}` })
  })
  // Not awaited: what cannot start because the database is away must still hear that it is over.
  const over = new AbortController()
  const started = start(over.signal).then(() => tell({ type: 'ready' }))
  for await (const each of commands(command)) {
    if (each.do === 'stall') stall(each.ms)
    else if (each.do === 'shift-clock') shiftClock(each.ms)
    else break
  }
  tell({ type: 'stage', stage: 'the start' })
  over.abort()
  await started
  for (const [stage, step] of Object.entries(close)) {
    tell({ type: 'stage', stage })
    await step()
  }
  // Sockets are told to end; the system confirms a moment later.
  const giveUpAt = performance.now() + 3_000
  while (leftovers().length > 0 && performance.now() < giveUpAt) await new Promise((resolve) => setImmediate(resolve))
  tell({ type: 'closed', resources: leftovers() })
  process.exit(0)
}
