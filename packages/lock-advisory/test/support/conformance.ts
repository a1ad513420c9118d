import type { Locker } from '@x/lock-core'
import { lockerConformance } from '@x/lock-core/conformance'
import type { DatabaseOfFile } from '@x/testkit/vitest'
import { Client } from 'pg'
import { describe, it } from 'vitest'
import { type AdvisoryLockerOptions, createAdvisoryLocker } from '../../src/index.ts'

const sessions = new WeakMap<Locker, string>()
let created = 0

/** Declares the suite of lock-core for one way of waiting and of fencing. */
export function declareConformance(
  database: DatabaseOfFile,
  options: Pick<AdvisoryLockerOptions, 'wait' | 'fencing' | 'pollMs'>,
): void {
  const { wait = 'notify', fencing = 'none' } = options
  const admin = async <T>(fn: (client: Client) => Promise<T>): Promise<T> => {
    const client = new Client({ connectionString: database.url, application_name: 'testkit' })
    await client.connect()
    try {
      return await fn(client)
    } finally {
      await client.end()
    }
  }
  lockerConformance({
    name: `advisory, ${wait}, fencing ${fencing}`,
    runner: { describe, it, skip: (name, reason) => it.skip(`${name} (${reason})`, () => {}) },
    capabilities: {
      modes: ['exclusive', 'shared'],
      fencing: fencing === 'sequence' ? 'durable' : fencing === 'xid' ? 'process' : 'none',
      lease: false,
      fifo: 'process',
      durable: false,
      crossProcess: true,
      lossNotice: 'best-effort',
    },
    createLocker: async () => {
      created += 1
      const applicationName = `conformance-${created}`
      const locker = createAdvisoryLocker({
        ...options,
        fencing,
        connectionString: database.url,
        applicationName,
        pollMs: options.pollMs ?? 100,
        detectMs: 2_000,
      })
      sessions.set(locker, applicationName)
      return locker
    },
    detectMs: 2_000,
    schedules: Number(process.env.COORDINATION_SCHEDULES ?? 20),
    hooks: {
      endSession: (locker) =>
        admin(async (client) => {
          const name = sessions.get(locker)
          await client.query(
            'SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = current_database() AND application_name = $1',
            [name],
          )
        }),
      leaks: () =>
        admin(async (client) => {
          const { rows } = await client.query<{ what: string }>(
            `SELECT format('%s %s %s %s of %s', classid, objid, objsubid, mode, pid) AS what FROM pg_locks
              WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`,
          )
          return rows.map(({ what }) => what)
        }),
    },
  })
}
