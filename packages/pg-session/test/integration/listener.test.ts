import { setTimeout as delay } from 'node:timers/promises'
import { monotonicNow } from '@x/lock-core/adapter'
import { backendsNamed, eventually, pgbouncer, tcpProxy, terminateBackend } from '@x/testkit'
import { describeWith, useDatabase } from '@x/testkit/vitest'
import { describe, expect, it } from 'vitest'
import { channelName, connectionSource } from '../../src/index.ts'
import { applicationName, recordListeners } from './recorded-listener.ts'

const database = useDatabase()
const listen = recordListeners(database)
const notify = (channel: string, payload: string) =>
  database.pool().query('SELECT pg_notify($1, $2)', [channel, payload])
const listeners = () => backendsNamed(database.pool(), applicationName)

describe('a listener', () => {
  it('connects with the first channel, resyncs, and delivers payloads as they were sent', async () => {
    const { listener, heard, resyncs } = listen()
    expect(listener.state.status).toBe('idle')
    expect(await listeners()).toHaveLength(0)
    await listener.listen('orders')
    expect(listener.state).toEqual({ status: 'listening', pid: (await listeners())[0] })
    expect(resyncs).toEqual([{ first: true, gapMs: 0 }])
    await notify('orders', 'not { json')
    await notify('orders', '')
    await notify('others', 'x')
    await eventually(() => heard.length === 2)
    expect(heard).toEqual([
      ['orders', 'not { json'],
      ['orders', ''],
    ])
  })

  it.each(['1_digit', 'UPPER case', 'quo"te', `'); DROP TABLE x; --`, 'é'.repeat(40), 'x'.repeat(200)])(
    'takes any name: %s',
    async (name) => {
      const { listener, heard } = listen()
      await listener.listen(name)
      await notify(channelName(name), 'here')
      await eventually(() => heard.length === 1)
      expect(heard).toEqual([[channelName(name), 'here']])
    },
  )

  it('uses one connection for all channels, and stops hearing what it does not listen to', async () => {
    const { listener, heard } = listen()
    await Promise.all(['a', 'b', 'c'].map((name) => listener.listen(name)))
    expect(await listeners()).toHaveLength(1)
    await listener.unlisten('b')
    for (const name of ['a', 'b', 'c']) await notify(name, '')
    await eventually(() => heard.length === 2)
    expect(heard.map(([channel]) => channel)).toEqual(['a', 'c'])
    await listener.listen('b')
    await notify('b', 'again')
    await eventually(() => heard.length === 3)
  })

  it('lends its connection for session locks, which end with it', async () => {
    const lock = { name: 'lock', text: 'SELECT pg_advisory_lock_shared(7)' }
    const { listener } = listen({
      onConnected: async (session) => {
        await session.query(lock, [])
      },
    })
    const held = async (): Promise<number[]> =>
      (
        await database
          .pool()
          .query(
            `SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = 7 AND pid IN (SELECT pid FROM pg_stat_activity WHERE datname = current_database())`,
          )
      ).rows.map((row) => row.pid)
    await listener.listen('x')
    const before = await listeners()
    expect(await held()).toEqual(before)
    await terminateBackend(database.pool(), { applicationName })
    await eventually(async () => (await held()).length === 1 && !(await held()).includes(before[0] ?? 0))
    await listener.close()
    await eventually(async () => (await held()).length === 0)
  })

  it('gives a connection up whose preparation failed, and takes another', async () => {
    let attempts = 0
    const { listener, resyncs } = listen({
      onConnected: async () => {
        attempts += 1
        if (attempts < 3) throw new Error('not yet')
      },
    })
    await listener.listen('x')
    expect(attempts).toBe(3)
    expect(resyncs).toHaveLength(1)
    await eventually(async () => (await listeners()).length === 1)
  })
})

describe('when the connection is lost', () => {
  it('says so at once, connects again, and says for how long it was deaf', async () => {
    const { listener, heard, resyncs, states } = listen()
    await listener.listen('orders')
    await terminateBackend(database.pool(), { applicationName })
    await eventually(() => states.some((state) => state.status === 'connecting' && state.lastError !== null))
    await eventually(() => resyncs.length === 2)
    expect(resyncs[1]?.first).toBe(false)
    expect(resyncs[1]?.gapMs).toBeGreaterThan(0)
    await notify('orders', 'after')
    await eventually(() => heard.length === 1)
    expect(states.map(({ status }) => status)).toEqual(['connecting', 'listening', 'connecting', 'listening'])
    expect(listener.state.status).toBe('listening')
  })

  it('leaves no socket of a failed attempt open', async () => {
    await using proxy = await tcpProxy(database.url)
    const { listener, states } = listen({ url: proxy.url(database.url), detectMs: 300 })
    proxy.blackHole()
    listener.listen('orders').catch(() => {})
    await eventually(() => states.filter((state) => state.status === 'connecting').length >= 4, { deadlineMs: 15_000 })
    await listener.close()
    // A client that is still there would now connect after all.
    proxy.heal()
    await eventually(async () => proxy.open === 0 && (await listeners()).length === 0)
  })

  // A server that lost the subscription (DISCARD ALL of a pooler, a restart of something in between) says nothing.
  it('notices that the server has forgotten a channel', async () => {
    let forgotten = false
    const { listener, resyncs, heard } = listen({
      detectMs: 600,
      onConnected: async (session) => {
        if (!forgotten) await session.query({ name: '', text: 'UNLISTEN orders' }, [])
        forgotten = true
      },
    })
    await listener.listen('orders')
    await eventually(() => resyncs.length === 2)
    await notify('orders', 'heard')
    await eventually(() => heard.length === 1)
  })
})

describe('a connection that is lost as soon as it listens', () => {
  it('is tried again more and more slowly', async () => {
    await using proxy = await tcpProxy(database.url)
    const { listener, states } = listen({
      url: proxy.url(database.url),
      onStateChange: (state) => {
        states.push(state)
        if (state.status === 'listening') proxy.cut()
      },
    })
    const startedAt = monotonicNow()
    await listener.listen('orders')
    await eventually(() => states.filter(({ status }) => status === 'listening').length === 5, { deadlineMs: 30_000 })
    // At least a fifth of 200, 400, 800 and 1,600 ms.
    expect(monotonicNow() - startedAt).toBeGreaterThan(600)
    const attempts = states.flatMap((state) => (state.status === 'connecting' ? [state.attempt] : []))
    expect(attempts.slice(0, 5)).toEqual([1, 2, 3, 4, 5])
  })
})

describe('calls', () => {
  it('take effect in the order in which they were made', async () => {
    const { listener, heard } = listen()
    await listener.listen('orders')
    // The first keeps the line busy, so that the others wait for their turn.
    await Promise.all([listener.listen('others'), listener.unlisten('orders'), listener.listen('orders')])
    await notify('orders', 'here')
    await eventually(() => heard.length === 1)
  })

  it('survive callbacks that throw', async () => {
    const seen: string[] = []
    const { listener, logged } = listen({
      onNotification: (_channel, payload) => {
        seen.push(payload)
        throw new Error('handler')
      },
      onResync: () => {
        throw new Error('resync')
      },
      onStateChange: () => {
        throw new Error('state')
      },
    })
    await listener.listen('orders')
    await database.pool().query(`SELECT pg_notify('orders', n::text) FROM generate_series(1, 3) n`)
    await eventually(() => seen.length === 3)
    expect(seen).toEqual(['1', '2', '3'])
    expect(logged).toContain('listener: onNotification threw')
    expect(listener.state.status).toBe('listening')
  })

  it('are refused after close', async () => {
    const { listener } = listen()
    await listener.listen('orders')
    await listener.close()
    await listener.close()
    expect(listener.state.status).toBe('closed')
    expect(await listeners()).toHaveLength(0)
    await expect(listener.listen('orders')).rejects.toMatchObject({ code: 'CLOSED' })
    await expect(listener.listen('')).rejects.toMatchObject({ code: 'CLOSED' })
  })
})

describe('closing', () => {
  it('while it connects leaves no session', async () => {
    await using proxy = await tcpProxy(database.url)
    const { listener, states } = listen({ url: proxy.url(database.url) })
    await listener.listen('orders')
    proxy.delay(150)
    await terminateBackend(database.pool(), { applicationName })
    await eventually(() => states.filter(({ status }) => status === 'connecting').length > 1)
    await eventually(async () => (await listeners()).length === 1)
    await listener.close()
    await eventually(async () => (await listeners()).length === 0)
    expect(listener.state.status).toBe('closed')
  })

  it('at any moment on the way leaves no session', async () => {
    await using proxy = await tcpProxy(database.url)
    proxy.delay(4)
    const closed = Array.from({ length: 25 }, async (_, n) => {
      const { listener } = listen({ url: proxy.url(database.url) })
      const outcome = listener.listen('orders').catch((error: unknown) => error)
      await delay(n * 4)
      await listener.close()
      expect([undefined, 'CLOSED']).toContain(
        await outcome.then((error) => (error as { code?: string } | undefined)?.code),
      )
    })
    await Promise.all(closed)
    await eventually(async () => (await listeners()).length === 0)
  })

  it.each([
    ['is introduced', 'pg_backend_pid'],
    ['begins to probe itself', 'LISTEN coordination_probe'],
    ['waits for the answer to its probe', 'pg_notify'],
    ['ends its probe', 'UNLISTEN coordination_probe'],
    ['subscribes', 'LISTEN orders'],
  ])('while it %s ends the connection, although nothing comes', async (_stage, matching) => {
    await using proxy = await tcpProxy(database.url)
    const { listener } = listen({ url: proxy.url(database.url), detectMs: 50_000 })
    const outcome = expect(listener.listen('orders')).rejects.toMatchObject({ code: 'CLOSED' })
    await proxy.swallowNextReply({ matching, after: 'hang' })
    await listener.close()
    await outcome
    await eventually(() => proxy.open === 0)
  })

  it('while it prepares the connection does not wait for that', async () => {
    let prepared = 0
    const { listener } = listen({
      onConnected: () => {
        prepared += 1
        return new Promise(() => {})
      },
    })
    const outcome = expect(listener.listen('orders')).rejects.toMatchObject({ code: 'CLOSED' })
    await eventually(() => prepared === 1)
    // A loss is not waited out either.
    await terminateBackend(database.pool(), { applicationName })
    await eventually(() => prepared === 2)
    await listener.close()
    await outcome
    await eventually(async () => (await listeners()).length === 0)
  })

  it('has the name that it was given, whatever name the connection string has', async () => {
    const url = new URL(database.url)
    url.searchParams.set('application_name', 'from the url')
    const { listener } = listen({ url: url.href })
    await listener.listen('orders')
    expect(await listeners()).toHaveLength(1)
    await listener.close()
  })

  it('asks again when the function for the connection never answers', async () => {
    let asked = 0
    const connection = (): Promise<{ connectionString: string }> => {
      asked += 1
      return asked === 1 ? new Promise(() => {}) : Promise.resolve({ connectionString: database.url })
    }
    const { listener } = listen({ source: connectionSource({ connection }, 'test'), detectMs: 500 })
    await listener.listen('orders')
    expect(asked).toBeGreaterThan(1)
    await listener.close()
  })

  it('ends what waits, whatever it waits for', async () => {
    const unreachable = listen({ url: 'postgres://127.0.0.1:1/none' })
    const stuck = listen({ source: connectionSource({ connection: () => new Promise(() => {}) }, 'test') })
    const waiting = [unreachable.listener.listen('x'), stuck.listener.listen('x')]
    const outcomes = waiting.map((one) => expect(one).rejects.toMatchObject({ code: 'CLOSED' }))
    await eventually(() => unreachable.states.length >= 3)
    await unreachable.listener.close()
    await stuck.listener.close()
    await Promise.all(outcomes)
  })

  it('is what its signal does', async () => {
    const controller = new AbortController()
    const { listener } = listen({ signal: controller.signal })
    await listener.listen('orders')
    controller.abort()
    await eventually(async () => listener.state.status === 'closed' && (await listeners()).length === 0)
    const late = listen({ signal: AbortSignal.abort() })
    await expect(late.listener.listen('x')).rejects.toMatchObject({ code: 'CLOSED' })
  })
})

describe('a server that takes LISTEN and NOTIFY and delivers nothing', () => {
  const probing = `SELECT FROM pg_stat_activity WHERE datname = current_database() AND application_name = $1 AND state = 'idle' AND query LIKE '%pg_notify%'`
  const deaf = async (): Promise<string> => {
    const client = await database.client()
    await client.query(`
      CREATE SCHEMA IF NOT EXISTS deaf;
      CREATE OR REPLACE FUNCTION deaf.pg_notify(text, text) RETURNS void LANGUAGE sql AS ''`)
    await client.end()
    return `${database.url}?options=${encodeURIComponent('-c search_path=deaf,pg_catalog')}`
  }

  it('is refused', async () => {
    const { listener, states } = listen({ url: await deaf(), detectMs: 1_000 })
    await expect(listener.listen('orders')).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      message: expect.stringContaining('expected to hear a notification of its own within 1000 ms, got none'),
    })
    expect(states.at(-1)?.status).toBe('refused')
    await eventually(async () => (await listeners()).length === 0)
  })

  it('is not believed to be one because the line died while it waited to hear of itself', async () => {
    await using proxy = await tcpProxy(database.url)
    const { listener, states } = listen({ url: proxy.url(await deaf()), detectMs: 1_500 })
    const outcome = expect(listener.listen('orders')).rejects.toMatchObject({ code: 'UNSUPPORTED' })
    await eventually(async () => (await database.pool().query(probing, [applicationName])).rowCount === 1)
    proxy.halfOpen()
    // The second connection finds out about the server.
    await outcome
    const failures = states.flatMap((state) => (state.status === 'connecting' ? [state.lastError?.code ?? null] : []))
    expect(failures.slice(0, 2)).toEqual([null, 'CONNECTION'])
  })

  it('does not keep a listener that is closed while it waits to hear of itself', async () => {
    const { listener } = listen({ url: await deaf(), detectMs: 50_000 })
    const outcome = expect(listener.listen('orders')).rejects.toMatchObject({ code: 'CLOSED' })
    await eventually(async () => (await database.pool().query(probing, [applicationName])).rowCount === 1)
    await listener.close()
    await outcome
    await eventually(async () => (await listeners()).length === 0)
  })
})

describeWith('pgbouncer', 'behind a pooler', () => {
  it('that pins sessions, it listens when told so', async () => {
    await using pooler = await pgbouncer({ url: database.url, mode: 'session' })
    const { listener, heard } = listen({ url: pooler.url(database.url), pooler: 'session' })
    await listener.listen('orders')
    await notify('orders', 'through')
    await eventually(() => heard.length === 1)
    await listener.close()
  })
})
