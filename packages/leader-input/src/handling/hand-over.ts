import type { FeedEvent } from '../event.ts'

/** Gives one event away; resolves with whether its taker has asked for the next, which acknowledges it. */
export type HandOver = (event: FeedEvent, signal: AbortSignal) => Promise<boolean>
