import { expect, it } from 'vitest'
import type { Connection, Connections } from '../../src/connections.ts'
import { pageAhead } from '../../src/log/page-ahead.ts'
import type { Page, PagePlace } from '../../src/log/reader.ts'
import { emptySnapshot, parseSnapshot } from '../../src/log/window.ts'

const next = parseSnapshot('10:12:11')
const window = { next, hi: 9n, nextLo: 3n, lastSeq: 4n }
const place: PagePlace = {
  cursor: { prev: emptySnapshot, lo: 0n, lineage: 1 },
  window,
  locations: ['public.orders'],
}
const page: Page = { changes: [], window, complete: true }
/** What lends connections: never one, or at once. Of a connection only its end matters here. */
let ended = 0
const connection = {
  release: () => {
    ended += 1
  },
} as unknown as Connection
const lends: Pick<Connections, 'useSpare'> = { useSpare: (fn) => fn(connection) }
const lendsNone: Pick<Connections, 'useSpare'> = { useSpare: () => new Promise(() => {}) }
const never = new AbortController().signal

it('gives the page that was read ahead for its place, and for no other', async () => {
  const ahead = () => pageAhead(lends, place, async () => page)
  expect(await ahead().take({ ...place }, never)).toBe(page)
  const others: PagePlace[] = [
    { ...place, locations: ['public.orders', 'public.notes'] },
    { ...place, window: { ...window, lastSeq: 5n } },
    { ...place, window: { ...window, next: parseSnapshot('10:12:11') } },
    { ...place, cursor: { ...place.cursor, lineage: 2 } },
    { ...place, cursor: { ...place.cursor, lo: 1n } },
    { ...place, cursor: { ...place.cursor, prev: parseSnapshot('3:3:') } },
  ]
  for (const other of others) expect(await ahead().take(other, never)).toBeNull()
})

it('is of no use without a connection, and waits for none', async () => {
  expect(await pageAhead(lendsNone, place, async () => page).take(place, never)).toBeNull()
})

it('leaves an error to the ordinary read', async () => {
  const ahead = pageAhead(lends, place, async () => {
    throw new Error('no')
  })
  expect(await ahead.take(place, never)).toBeNull()
})

it('does not outlast the term', async () => {
  const over = new AbortController()
  const taken = pageAhead(lends, place, () => new Promise(() => {})).take(place, over.signal)
  const before = ended
  over.abort()
  expect(await taken).toBeNull()
  // Or a line that has died would be waited for after the end.
  expect(ended).toBe(before + 1)
})

it('does not read when it was dropped before it had a connection', async () => {
  const lent = Promise.withResolvers<void>()
  let reads = 0
  const lendsLate: Pick<Connections, 'useSpare'> = {
    useSpare: async (fn) => {
      await lent.promise
      return fn(connection)
    },
  }
  const ahead = pageAhead(lendsLate, place, async () => {
    reads += 1
    return page
  })
  ahead.drop()
  lent.resolve()
  await new Promise((resolve) => setImmediate(resolve))
  expect(reads).toBe(0)
})
