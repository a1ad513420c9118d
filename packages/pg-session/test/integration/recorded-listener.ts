import type { DatabaseOfFile } from '@x/testkit/vitest'
import { afterEach } from 'vitest'
import {
  connectionSource,
  createListener,
  type Listener,
  type ListenerOptions,
  type ListenerState,
} from '../../src/index.ts'

export const applicationName = 'pg-session listener'

/** A listener with all that it told. */
export interface RecordedListener {
  readonly listener: Listener
  readonly heard: [channel: string, payload: string][]
  readonly resyncs: { readonly gapMs: number; readonly first: boolean }[]
  readonly states: ListenerState[]
  readonly logged: string[]
}

/** Makes listeners that remember everything, and closes them after each test of the calling file. */
export function recordListeners(
  database: DatabaseOfFile,
): (options?: Partial<ListenerOptions> & { url?: string }) => RecordedListener {
  const open: Listener[] = []
  afterEach(async () => {
    await Promise.all(open.splice(0).map((one) => one.close()))
  })
  return (options = {}) => {
    const heard: [string, string][] = []
    const resyncs: { gapMs: number; first: boolean }[] = []
    const states: ListenerState[] = []
    const logged: string[] = []
    const log = (_fields: object, message: string): void => void logged.push(message)
    const listener = createListener({
      source: connectionSource({ connectionString: options.url ?? database.url }, 'test'),
      applicationName,
      onNotification: (channel, payload) => heard.push([channel, payload]),
      onResync: (event) => resyncs.push(event),
      onStateChange: (state) => states.push(state),
      logger: { debug: log, info: log, warn: log, error: log },
      ...options,
    })
    open.push(listener)
    return { listener, heard, resyncs, states, logged }
  }
}
