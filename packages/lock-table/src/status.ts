import type { LockHolder, LockStatus } from '@x/lock-core'
import { z } from 'zod'

/** A row of the statement `list`. */
export type StatusRow = readonly [
  key: string,
  isAcquired: string,
  shared: string,
  sessionId: string | null,
  acquirerName: string | null,
  acquirerAddress: string | null,
  acquiredAtMs: string | null,
  expiresAtMs: string | null,
  token: string | null,
  metadata: string | null,
  waiters: string,
  shares: string | null,
]

const text = z.string().nullable()
const shares = z.array(z.tuple([z.string(), text, text, text, text, text, text]))

const date = (ms: string | null): Date | null => (ms === null ? null : new Date(Number(ms)))

/** What somebody else wrote may be of any shape; a copy by name would lose `__proto__`. */
const metadataOf = (json: string | null): Readonly<Record<string, string>> | null => {
  const parsed: unknown = json === null ? null : JSON.parse(json)
  return isMetadata(parsed) ? parsed : null
}

const isMetadata = (value: unknown): value is Readonly<Record<string, string>> =>
  typeof value === 'object' &&
  value !== null &&
  !Array.isArray(value) &&
  Object.values(value).every((entry) => typeof entry === 'string')

/** The state of a key as the database shows it. */
export const statusOf = (row: StatusRow): LockStatus => {
  const [key, isAcquired, shared, sessionId, name, address, acquiredAtMs, expiresAtMs, token, meta, waiters, json] = row
  const exclusive: LockHolder = {
    mode: 'exclusive',
    sessionId,
    acquirerName: name,
    acquirerAddress: address,
    pid: null,
    acquiredAt: date(acquiredAtMs),
    expiresAt: date(expiresAtMs),
    fencingToken: token === null ? null : BigInt(token),
    metadata: metadataOf(meta),
  }
  const holders =
    isAcquired !== '1' ? [] : shared === '1' ? shares.parse(JSON.parse(json ?? '[]')).map(shareOf) : [exclusive]
  return statusWith(key, isAcquired === '1', holders, Number(waiters))
}

/** The state of a key of which the database knows nothing. */
export const unknownStatus = (key: string): LockStatus => statusWith(key, false, [], 0)

const shareOf = ([sessionId, name, address, acquiredAtMs, expiresAtMs, token, meta]: z.infer<
  typeof shares
>[number]): LockHolder => ({
  mode: 'shared',
  sessionId,
  acquirerName: name,
  acquirerAddress: address,
  pid: null,
  acquiredAt: date(acquiredAtMs),
  expiresAt: date(expiresAtMs),
  // Negative: taken away by force, and held until its lease ends.
  fencingToken: token === null ? null : BigInt(token.replace('-', '')),
  metadata: metadataOf(meta),
})

const statusWith = (key: string, isAcquired: boolean, holders: readonly LockHolder[], waiters: number): LockStatus => {
  const [first] = holders
  return {
    key,
    isAcquired,
    mode: first?.mode ?? null,
    sessionId: first?.sessionId ?? null,
    acquirerName: first?.acquirerName ?? null,
    acquirerAddress: first?.acquirerAddress ?? null,
    acquiredAt: first?.acquiredAt ?? null,
    expiresAt: first?.expiresAt ?? null,
    fencingToken: first?.fencingToken ?? null,
    metadata: first?.metadata ?? null,
    waiters,
    holders,
  }
}
