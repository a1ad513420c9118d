import { lockerConformance } from '@x/lock-core/conformance'
import { Client } from 'pg'
import { describe, it } from 'vitest'
import { createTableLocker, type TableLockerOptions } from '../../src/index.ts'

export interface Variant {
  /** Straight to the server, for what the test itself asks. */
  readonly url: () => string
  readonly options: () => TableLockerOptions
  readonly schedules?: number
}

/** What nobody holds or waits for must have left nothing behind. */
const leaks = async (url: string): Promise<readonly string[]> => {
  const client = new Client({ connectionString: url, application_name: 'testkit' })
  await client.connect()
  try {
    const { rows } = await client.query<{ what: string }>(
      `SELECT 'ticket for ' || w.key AS what FROM coordination.lock_waiters w
       UNION ALL SELECT 'session ' || s.session_id FROM coordination.lock_sessions s WHERE s.expires_at > now() + interval '10 s'`,
    )
    return rows.map((row) => row.what)
  } finally {
    await client.end()
  }
}

/** The suite of lock-core, over one way to reach the database. */
export const declareConformance = (name: string, { url, options, schedules = 20 }: Variant): void => {
  lockerConformance({
    name,
    runner: {
      describe: (title, fn) => void describe(title, fn),
      it: (title, fn) => void it(title, fn),
      skip: (title, reason) => void it(title, ({ skip }) => skip(reason)),
    },
    capabilities: {
      modes: ['exclusive', 'shared'],
      fencing: 'durable',
      lease: true,
      fifo: 'global',
      durable: true,
      crossProcess: true,
      lossNotice: 'before-regrant',
    },
    createLocker: async () => createTableLocker(options()),
    schedules,
    ttlMs: 1_000,
    renewsGivenTtl: true,
    hooks: {
      async forceRelease(key) {
        await using operator = createTableLocker({ connectionString: url() })
        await operator.forceRelease(key)
      },
      leaks: () => leaks(url()),
    },
  })
}
