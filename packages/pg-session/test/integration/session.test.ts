import { monotonicNow } from '@x/lock-core/adapter'
import { backendsNamed, eventually, tcpProxy, terminateBackend } from '@x/testkit'
import { useDatabase } from '@x/testkit/vitest'
import { types } from 'pg'
import { describe, expect, it } from 'vitest'
import { connectionSource, openSession, type Session, type SessionOptions } from '../../src/index.ts'

const database = useDatabase()
const applicationName = 'pg-session test'
const open = (options: Partial<SessionOptions> & { url?: string } = {}): Promise<Session> =>
  openSession({
    source: connectionSource({ connectionString: options.url ?? database.url }, 'test'),
    applicationName,
    ...options,
  })
const one = { name: 'one', text: 'SELECT 1' }
const sleep = { name: 'sleep', text: 'SELECT pg_sleep($1)' }
const lost = (session: Session): Promise<unknown> =>
  eventually(() => session.lost.aborted, { deadlineMs: 10_000, what: 'the session to be lost' })

describe('an open session', () => {
  it('gives rows as arrays over a connection whose pid the server confirms', async () => {
    const session = await open()
    const rows = await session.query({ name: 'n', text: 'SELECT n, pg_backend_pid() FROM generate_series(1, 3) n' }, [])
    expect(rows).toEqual([1, 2, 3].map((n) => [n, session.pid]))
    expect(await backendsNamed(database.pool(), applicationName)).toEqual([session.pid])
    await session.close()
  })

  it('has the name that it was given, whatever name the connection string has', async () => {
    const url = new URL(database.url)
    url.searchParams.set('application_name', 'from the url')
    const session = await open({ url: url.href })
    const rows = await session.query({ name: 'name', text: `SELECT current_setting('application_name')` }, [])
    expect(rows).toEqual([[applicationName]])
    await session.close()
  })

  it('makes the server notice a dead client in seconds, and lets the caller add settings', async () => {
    const session = await open({ detectMs: 3_000, settings: { lock_timeout: '77', no_such_setting: '1' } })
    const names = 'idle_session_timeout statement_timeout lock_timeout tcp_keepalives_idle tcp_user_timeout'
    const rows = await session.query({ name: 's', text: 'SELECT current_setting(n) FROM unnest($1::text[]) n' }, [
      [...names.split(' '), 'client_connection_check_interval'],
    ])
    expect(rows.flat()).toEqual(['0', '0', '77ms', '3', '6000', '1500ms'])
    await session.close()
  })

  it('prepares a statement once', async () => {
    const session = await open()
    for (let round = 0; round < 3; round += 1) await session.query(one, [])
    const rows = await session.query({ name: 'p', text: 'SELECT name FROM pg_prepared_statements' }, [])
    expect(rows.flat().filter((name) => name === 'one')).toEqual(['one'])
    await session.close()
  })

  it('runs statements one after the other, and goes on after an error of one', async () => {
    const session = await open()
    const outcomes = await Promise.allSettled([
      session.query(one, []),
      session.query({ name: 'bad', text: 'SELECT 1 / $1::int' }, [0]),
      session.query({ name: 'wrong', text: 'SELEC' }, []),
      session.query({ name: 'echo', text: 'SELECT $1::text' }, ['x']),
    ])
    expect(outcomes.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'rejected', 'fulfilled'])
    expect(outcomes[1]).toMatchObject({ reason: { code: 'QUERY_FAILED', sqlState: '22012' } })
    expect(outcomes[3]).toMatchObject({ value: [['x']] })
    expect(session.isAlive()).toBe(true)
    await session.close()
  })

  it('is lost when the driver gives up on a statement: that proves no life, and the server may still be at it', async () => {
    const source = connectionSource(
      { connection: { ...{ query_timeout: 3_000 }, connectionString: database.url } },
      'test',
    )
    const session = await open({ source, detectMs: 20_000 })
    await expect(session.query(sleep, [4])).rejects.toMatchObject({ code: 'CONNECTION' })
    expect(session.isAlive()).toBe(false)
    expect(session.lost.reason).toMatchObject({ code: 'CONNECTION' })
    await session.close()
  })

  it('reads rows by itself, whatever parsers the application has set for its process', async () => {
    const oids = [16, 20, 23, 25]
    const before = oids.map((oid) => types.getTypeParser(oid))
    for (const oid of oids) types.setTypeParser(oid, () => 'parsed by the application')
    try {
      const session = await open()
      const text = `SELECT true, 9007199254740993::int8, 7::int4, 'x'::text, NULL::int8`
      expect(await session.query({ name: 'typed', text }, [])).toEqual([[true, '9007199254740993', 7, 'x', null]])
      await session.close()
    } finally {
      for (const [index, oid] of oids.entries()) types.setTypeParser(oid, before[index] ?? String)
    }
  })

  it('asks for a sign of life only when nothing else gives one', async () => {
    const session = await open({ detectMs: 3_000 })
    const admin = database.pool()
    const lastStatement = async (): Promise<string> =>
      (await admin.query('SELECT query FROM pg_stat_activity WHERE pid = $1', [session.pid])).rows[0].query
    const until = monotonicNow() + 1_500
    while (monotonicNow() < until) {
      await session.query({ name: 'work', text: 'SELECT 2' }, [])
      expect(await lastStatement()).toBe('SELECT 2')
    }
    await eventually(async () => (await lastStatement()) === 'SELECT 1')
    expect(session.isAlive()).toBe(true)
    await session.close()
  })

  it('counts the deadline from before the request', async () => {
    await using proxy = await tcpProxy(database.url)
    const session = await open({ url: proxy.url(database.url), detectMs: 4_000 })
    proxy.delay(600, 'to-server')
    const before = monotonicNow()
    await session.query(one, [])
    // The server can have heard of it after 600 ms at the earliest.
    expect(session.trustedUntil).toBeLessThan(before + 4_000 + 600)
    expect(session.trustedUntil).toBeGreaterThanOrEqual(before + 4_000)
    await session.close()
  })
})

describe('a lost session', () => {
  const gone = [
    ['its backend is terminated', (session: Session) => terminateBackend(database.pool(), session.pid)],
    [
      'the server ends it while a statement runs',
      async (session: Session) => {
        const running = session.query(sleep, [20], { timeoutMs: Number.POSITIVE_INFINITY })
        const rejected = expect(running).rejects.toMatchObject({ code: 'CONNECTION' })
        await terminateBackend(database.pool(), session.pid)
        await rejected
      },
    ],
  ] as const
  it.each(gone)('is noticed at once when %s', async (_how, end) => {
    const session = await open()
    let losses = 0
    session.lost.addEventListener('abort', () => {
      losses += 1
    })
    await end(session)
    await lost(session)
    expect(session.isAlive()).toBe(false)
    expect(session.lost.reason).toMatchObject({ code: 'CONNECTION', retryable: true })
    await expect(session.query(one, [])).rejects.toBe(session.lost.reason)
    await session.close()
    await session.close()
    expect(losses).toBe(1)
  })

  it.each([
    ['half-open', 'halfOpen'],
    ['deaf in one direction', 'blackHole'],
  ] as const)('is noticed within its detection time when the line is %s', async (_what, fault) => {
    await using proxy = await tcpProxy(database.url)
    const session = await open({ url: proxy.url(database.url), detectMs: 2_000 })
    await session.query(one, [])
    const provenBefore = monotonicNow()
    const waiting = session.query(one, [])
    await waiting
    if (fault === 'halfOpen') proxy.halfOpen()
    else proxy.blackHole('to-client')
    const inFlight = session.query(one, [])
    await expect(inFlight).rejects.toMatchObject({ code: 'CONNECTION' })
    expect(monotonicNow() - provenBefore).toBeGreaterThanOrEqual(2_000)
    expect(session.lost.aborted).toBe(true)
    expect(session.trustedUntil).toBeLessThanOrEqual(monotonicNow())
    await session.close()
  })

  it('ends for its holder at the deadline, even if the answer comes later', async () => {
    await using proxy = await tcpProxy(database.url)
    const session = await open({ url: proxy.url(database.url), detectMs: 1_500 })
    proxy.blackHole('to-client')
    // The event loop is busy past the deadline, and finds the answer when it is free again.
    const answer = expect(session.query(one, [])).rejects.toMatchObject({ code: 'CONNECTION' })
    const deadline = session.trustedUntil
    await eventually(() => monotonicNow() > deadline - 50)
    proxy.heal()
    while (monotonicNow() < deadline + 50);
    expect(session.isAlive()).toBe(false)
    await answer
    expect(session.isAlive()).toBe(false)
    expect(session.lost.aborted).toBe(true)
    await session.close()
  })

  it('is what becomes of one whose statement was given up', async () => {
    const session = await open()
    const admin = database.pool()
    const given = session.query(sleep, [30], { timeoutMs: 150 })
    const behind = session.query(one, [])
    await expect(given).rejects.toMatchObject({ code: 'CONNECTION', message: expect.stringContaining('150 ms') })
    await expect(behind).rejects.toMatchObject({ code: 'CONNECTION' })
    expect(session.lost.aborted).toBe(true)
    // client_connection_check_interval: the server does not sleep on for a client that is gone.
    await eventually(async () => (await backendsNamed(admin, applicationName)).length === 0, { deadlineMs: 10_000 })
  })
})

describe('a statement that may block', () => {
  it('has no deadline, and proves life when it is answered', async () => {
    const session = await open({ detectMs: 1_000 })
    await session.query(sleep, [1.5], { timeoutMs: Number.POSITIVE_INFINITY })
    expect(session.isAlive()).toBe(true)
    expect(session.trustedUntil).toBeGreaterThan(monotonicNow())
    await session.close()
  })

  it('is followed by heartbeats again', async () => {
    const session = await open({ detectMs: 1_000 })
    await session.query(sleep, [1.5], { timeoutMs: Number.POSITIVE_INFINITY })
    const answeredUntil = session.trustedUntil
    await eventually(() => session.trustedUntil > answeredUntil || !session.isAlive(), { deadlineMs: 10_000 })
    expect(session.isAlive()).toBe(true)
    await session.close()
  })
})

describe('closing', () => {
  it('rejects what is in flight, and resolves when the connection is gone', async () => {
    const session = await open()
    const running = session.query(sleep, [30], { timeoutMs: 60_000 })
    const waiting = session.query(one, [])
    const closed = session.close()
    await expect(running).rejects.toMatchObject({ code: 'CLOSED' })
    await expect(waiting).rejects.toMatchObject({ code: 'CLOSED' })
    await closed
    await expect(session.query(one, [])).rejects.toMatchObject({ code: 'CLOSED' })
    expect(session.lost.aborted).toBe(false)
    expect(session.isAlive()).toBe(false)
  })

  it('takes a second at most on a line that is dead', async () => {
    await using proxy = await tcpProxy(database.url)
    const session = await open({ url: proxy.url(database.url) })
    proxy.halfOpen()
    const before = monotonicNow()
    await session.close()
    expect(monotonicNow() - before).toBeLessThan(3_000)
  })
})

describe('connecting', () => {
  it('gives the caller’s reason when it is aborted, whatever it waits for', async () => {
    const reason = new Error('changed my mind')
    await using proxy = await tcpProxy(database.url)
    proxy.blackHole()
    const stops = [
      open({ url: proxy.url(database.url), signal: AbortSignal.any([AbortSignal.abort(reason)]) }),
      openSession({
        source: connectionSource({ connection: () => new Promise(() => {}) }, 'test'),
        applicationName,
        signal: abortedSoon(reason),
      }),
      open({ url: proxy.url(database.url), signal: abortedSoon(reason) }),
    ]
    for (const stop of stops) await expect(stop).rejects.toBe(reason)
  })

  it('leaves no session when it is aborted at any moment on the way', async () => {
    await using proxy = await tcpProxy(database.url)
    proxy.delay(4)
    const reason = new Error('changed my mind')
    const attempts = Array.from({ length: 20 }, async (_, n) => {
      const controller = new AbortController()
      setTimeout(() => controller.abort(reason), n * 4)
      const session = await open({ url: proxy.url(database.url), signal: controller.signal }).catch(
        (error: unknown) => {
          expect(error).toBe(reason)
          return null
        },
      )
      await session?.close()
    })
    await Promise.all(attempts)
    await eventually(() => proxy.open === 0)
    await eventually(async () => (await backendsNamed(database.pool(), applicationName)).length === 0)
  })

  it('gives up on a server that does not answer', async () => {
    await using proxy = await tcpProxy(database.url)
    proxy.blackHole()
    await expect(open({ url: proxy.url(database.url), detectMs: 300 })).rejects.toMatchObject({ code: 'CONNECTION' })
  })

  it('fails as at an unreachable server when the function for the connection throws, or never answers', async () => {
    const sealed = new Error('the vault is sealed')
    const ways = [() => Promise.reject(sealed), () => new Promise<never>(() => {})]
    const [thrown, late] = await Promise.all(
      ways.map((connection) =>
        open({ source: connectionSource({ connection }, 'test'), detectMs: 300 }).catch((error: unknown) => error),
      ),
    )
    expect(thrown).toMatchObject({ code: 'CONNECTION', retryable: true, cause: sealed })
    expect(late).toMatchObject({
      code: 'CONNECTION',
      retryable: true,
      message: expect.stringContaining('within 300 ms'),
    })
  })

  it('says what is wrong, and never a password', async () => {
    const wrongPassword = new URL(database.url)
    wrongPassword.username = 'nobody_of_this_name'
    wrongPassword.password = 'hunter2'
    const noDatabase = new URL(database.url)
    noDatabase.pathname = '/no_such_database'
    for (const url of [wrongPassword.href, noDatabase.href]) {
      const error: unknown = await open({ url }).catch((caught: unknown) => caught)
      expect(error).toMatchObject({ code: 'CONNECTION', retryable: false })
      expect(String(error)).not.toContain('hunter2')
    }
    await expect(open({ url: 'postgres://127.0.0.1:1/x' })).rejects.toMatchObject({
      code: 'CONNECTION',
      retryable: true,
      message: expect.stringContaining('ECONNREFUSED'),
    })
  })
})

function abortedSoon(reason: Error): AbortSignal {
  const controller = new AbortController()
  setTimeout(() => controller.abort(reason), 100)
  return controller.signal
}
