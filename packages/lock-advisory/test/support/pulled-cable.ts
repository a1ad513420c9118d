import { execFileSync } from 'node:child_process'
import { chmodSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { lockId } from '@x/lock-core'
import { monotonicNow } from '@x/lock-core/adapter'
import { eventually, startPrivatePostgres } from '@x/testkit'
import { Client } from 'pg'
import { createAdvisoryLocker } from '../../src/index.ts'

/**
 * Runs in a network namespace of its own, with a server in it. Takes its only network device down, so that every packet is
 * lost in both directions and nobody hears of it; only an observer on a Unix socket still reaches the server. Tells when the
 * holder gave up, and when the server let go of its lock and of a waiter in its queue. Argument: detectMs.
 */
const detectMs = Number(process.argv[2])
const cable = (state: 'up' | 'down'): unknown => execFileSync('ip', ['link', 'set', 'lo', state])

cable('up')
const sockets = mkdtempSync(join(tmpdir(), 'cable-'))
chmodSync(sockets, 0o777)
try {
  await using server = await startPrivatePostgres({ settings: { unix_socket_directories: sockets } })
  const { username, password, pathname } = new URL(server.url)
  const observer = new Client({
    host: sockets,
    port: server.port,
    user: username,
    password,
    database: pathname.slice(1),
  })
  await observer.connect()
  const backends = async (key: string, granted: boolean): Promise<number> => {
    const { rows } = await observer.query<{ n: number }>(
      `SELECT count(*)::int AS n FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1 AND granted = $2
          AND (classid::int8 << 32 | objid::int8) = $1`,
      [String(lockId(0, key)), granted],
    )
    return rows[0]?.n ?? 0
  }
  const locker = createAdvisoryLocker({ connectionString: server.url, detectMs, wait: 'server' })
  const lock = await locker.acquire('held')
  await observer.query('SELECT pg_advisory_lock($1)', [String(lockId(0, 'wanted'))])
  const waiting = locker.acquire('wanted').catch(() => {})
  await eventually(async () => (await backends('wanted', false)) === 1)

  const lost = new Promise<number>((resolve) => {
    lock.signal.addEventListener('abort', () => resolve(monotonicNow()), { once: true })
  })
  lock.assertHeld()
  const pulledAt = monotonicNow()
  cable('down')
  const deadlineMs = 60_000
  const [lostAt, freedAt, leftAt] = await Promise.all([
    lost,
    eventually(async () => (await backends('held', true)) === 0, { deadlineMs, everyMs: 20 }).then(monotonicNow),
    eventually(async () => (await backends('wanted', false)) === 0, { deadlineMs, everyMs: 20 }).then(monotonicNow),
  ])
  cable('up')
  await locker.close()
  await waiting
  await observer.end()
  process.stdout.write(
    `${JSON.stringify({ lostMs: lostAt - pulledAt, freedMs: freedAt - pulledAt, leftMs: leftAt - pulledAt })}\n`,
  )
} finally {
  rmSync(sockets, { recursive: true })
}
