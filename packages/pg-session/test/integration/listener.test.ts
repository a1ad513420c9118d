import { setTimeout as delay } from 'node:timers/promises'
import { backendsNamed, eventually, pgbouncer, tcpProxy, terminateBackend } from '@x/testkit'
import { describeWith, useDatabase } from '@x/testkit/vitest'
import pgListen from 'pg-listen'
import { afterEach, describe, expect, it } from 'vitest'
import {
  channelName,
  connectionSource,
  createListener,
  type ListenerOptions,
  type ListenerState,
} from '../../src/index.ts'

const database = useDatabase()
const applicationName = 'pg-session listener'

/** A listener that remembers everything; closed after the test. */
const opened: { close(): Promise<void> }[] = []
const listen = (options: Partial<ListenerOptions> & { url?: string } = {}) => {
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
  opened.push(listener)
  return { listener, heard, resyncs, states, logged }
}
afterEach(async () => {
  await Promise.all(opened.splice(0).map((one) => one.close()))
})
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
      (await database.pool().query(`SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = 7`)).rows.map(
        (row) => row.pid,
      )
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
    expect(await listeners()).toHaveLength(1)
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

  // pg-listen: "paranoid checking" waits for ever for its answer.
  it('notices a half-open socket', async () => {
    await using proxy = await tcpProxy(database.url)
    const { listener, heard, resyncs } = listen({ url: proxy.url(database.url), detectMs: 600 })
    const bare = pgListen.default(
      { connectionString: proxy.url(database.url), application_name: 'bare' },
      { paranoidChecking: 50, parse: (payload) => payload },
    )
    let reconnects = 0
    bare.events.on('reconnect', () => {
      reconnects += 1
    })
    await bare.connect()
    await bare.listenTo('orders')
    await listener.listen('orders')
    proxy.halfOpen()
    await eventually(() => resyncs.length === 2)
    await notify('orders', 'after')
    await eventually(() => heard.length === 1)
    expect(reconnects).toBe(0)
    proxy.cut()
    await bare.close().catch(() => {})
    await eventually(async () => (await backendsNamed(database.pool(), 'bare')).length === 0)
  })

  // pg-listen: emits an error after three seconds and stays deaf.
  it('goes on trying for longer than three seconds', async () => {
    await using proxy = await tcpProxy(database.url)
    const { listener, resyncs } = listen({ url: proxy.url(database.url) })
    await listener.listen('orders')
    const bare = pgListen.default({ connectionString: proxy.url(database.url), application_name: 'bare' })
    let gaveUp = false
    bare.events.on('error', () => {
      gaveUp = true
    })
    await bare.connect()
    proxy.refuse()
    proxy.cut()
    await eventually(() => gaveUp, { deadlineMs: 8_000 })
    expect(listener.state.status).toBe('connecting')
    proxy.heal()
    await eventually(() => resyncs.length === 2, { deadlineMs: 15_000 })
    expect(await backendsNamed(database.pool(), 'bare')).toHaveLength(0)
  })

  // pg-listen: a client that failed to connect is never ended.
  it('leaves no socket of a failed attempt open', async () => {
    await using proxy = await tcpProxy(database.url)
    const { listener, states } = listen({ url: proxy.url(database.url), detectMs: 300 })
    proxy.blackHole()
    listener.listen('orders').catch(() => {})
    await eventually(() => states.filter((state) => state.status === 'connecting').length >= 4, { deadlineMs: 15_000 })
    await listener.close()
    // A client that is still there would now connect after all.
    proxy.heal()
    await eventually(() => proxy.open === 0)
    expect(await listeners()).toHaveLength(0)
  })

  // pg-listen: a drop while it subscribes again is ignored, and it reports "connected" or nothing.
  it('survives a second loss while it subscribes again', async () => {
    await using proxy = await tcpProxy(database.url)
    const { listener, heard, resyncs } = listen({ url: proxy.url(database.url) })
    await listener.listen('orders')
    const swallowed = proxy.swallowNextReply({ matching: 'LISTEN orders', after: 'cut' })
    await terminateBackend(database.pool(), { applicationName })
    await swallowed
    await eventually(() => resyncs.length === 2)
    await notify('orders', 'after')
    await eventually(() => heard.length === 1)
    expect(listener.state.status).toBe('listening')
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

describe('calls', () => {
  // pg-listen: a second listenTo resolves at once, before the first took effect.
  it('resolve only when LISTEN took effect, the second as the first', async () => {
    await using proxy = await tcpProxy(database.url)
    const { listener } = listen({ url: proxy.url(database.url) })
    await listener.listen('first')
    proxy.blackHole('to-client')
    let done = 0
    const count = (): void => {
      done += 1
    }
    const both = [listener.listen('orders').then(count), listener.listen('orders').then(count)]
    await eventually(async () => (await backendsNamed(database.pool(), applicationName)).length === 1)
    expect(done).toBe(0)
    proxy.heal()
    await Promise.all(both)
    expect(done).toBe(2)
  })

  // pg-listen: what a handler throws escapes into the driver, where it breaks the parsing of what comes behind.
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
  // pg-listen: close() during a reconnect ends the old client, and the new one stays for good.
  it('while it connects leaves no session', async () => {
    await using proxy = await tcpProxy(database.url)
    const { listener, states } = listen({ url: proxy.url(database.url) })
    await listener.listen('orders')
    proxy.delay(150)
    await terminateBackend(database.pool(), { applicationName })
    await eventually(() => states.at(-1)?.status === 'connecting')
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

describeWith('pgbouncer', 'behind a pooler', () => {
  it('that hands the session on after each transaction, it refuses instead of hearing nothing', async () => {
    await using pooler = await pgbouncer({ url: database.url, mode: 'transaction' })
    const bare = pgListen.default({ connectionString: pooler.url(database.url) }, { parse: (payload) => payload })
    let barelyHeard = 0
    bare.notifications.on('orders', () => {
      barelyHeard += 1
    })
    await bare.connect()
    await bare.listenTo('orders')
    const { listener, states } = listen({ url: pooler.url(database.url) })
    await expect(listener.listen('orders')).rejects.toMatchObject({ code: 'POOLER_DETECTED' })
    expect(states.at(-1)).toMatchObject({ status: 'refused', error: { code: 'POOLER_DETECTED' } })
    await expect(listener.listen('others')).rejects.toMatchObject({ code: 'POOLER_DETECTED' })
    const sound = listen()
    await sound.listener.listen('orders')
    await notify('orders', '')
    await eventually(() => sound.heard.length === 1)
    expect(barelyHeard).toBe(0)
    await bare.close()
  })

  it('that pins sessions, it listens when told so', async () => {
    await using pooler = await pgbouncer({ url: database.url, mode: 'session' })
    const { listener, heard } = listen({ url: pooler.url(database.url), pooler: 'session' })
    await listener.listen('orders')
    await notify('orders', 'through')
    await eventually(() => heard.length === 1)
    await listener.close()
  })
})
