import { once } from 'node:events'
import type { Connection, Connections } from '../connections.ts'
import type { Page, PagePlace } from './reader.ts'

/** A page that is read while the one before it is being handled. */
export interface PageAhead {
  /**
   * The page, when it is the one that comes at `place`; null when it is another, could not be read, or has not found a
   * connection yet: then it is to be read in the ordinary way. Never rejects.
   */
  take(place: PagePlace, signal: AbortSignal): Promise<Page | null>
  /** Nobody will take it, because the term is over: ends the read with its connection. */
  drop(): void
}

/**
 * Reads the next page of a window on a second connection, so that the disk's work on a commit and the server's on a read
 * happen at once. It is the same page as later: what is visible in both ends of a window is over, and the log only grows.
 *
 * The connection is borrowed for the time of the read alone, and waited for no longer than the handler takes: a pool may
 * have no other than the term's, and the handler may want one itself.
 */
export function pageAhead(
  connections: Pick<Connections, 'useSpare'>,
  place: PagePlace,
  read: (connection: Connection) => Promise<Page>,
): PageAhead {
  let state: 'connecting' | 'reading' | 'dropped' | 'read' = 'connecting'
  let borrowed: Connection | null = null
  const reading = connections
    .useSpare(async (connection) => {
      if (state === 'dropped') return null
      state = 'reading'
      borrowed = connection
      const page = await read(connection)
      state = 'read'
      return page
    })
    // Whatever it was, the ordinary read meets it too, or does without.
    .catch(() => null)
    .finally(() => {
      borrowed = null
    })
  const drop = (): void => {
    state = 'dropped'
    borrowed?.release(true)
  }
  return {
    async take(wanted, signal) {
      if (signal.aborted) drop()
      else if (state === 'connecting') state = 'dropped'
      if (state === 'dropped' || !isSame(place, wanted)) return null
      const taken = new AbortController()
      const aborted = once(signal, 'abort', { signal: taken.signal }).then(
        () => {
          drop()
          return null
        },
        () => null,
      )
      try {
        return await Promise.race([reading, aborted])
      } finally {
        taken.abort()
      }
    },
    drop,
  }
}

function isSame(a: PagePlace, b: PagePlace): boolean {
  return (
    a.cursor.prev === b.cursor.prev &&
    a.cursor.lo === b.cursor.lo &&
    a.cursor.lineage === b.cursor.lineage &&
    a.window.next === b.window.next &&
    a.window.lastSeq === b.window.lastSeq &&
    a.locations.join() === b.locations.join()
  )
}
