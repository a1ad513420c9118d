/**
 * What pg-listen 1.7.0 does wrong, shown on itself against a real server, and that our listener does not. Whoever finds
 * the first half of a test failing has a pg-listen that was mended there.
 *
 * | defect of pg-listen                                              | test                                     |
 * | ---------------------------------------------------------------- | ---------------------------------------- |
 * | gives up after 3 s by default                                    | gives up after three seconds             |
 * | `retryLimit: 1` makes no attempt                                 | makes no attempt with `retryLimit: 1`    |
 * | clients that failed to connect are never ended                   | never ends a client that failed          |
 * | the paranoid check has no timeout                                | waits for its own check for ever         |
 * | the paranoid check overlaps itself                               | waits for its own check for ever         |
 * | a throwing handler escapes into the driver                       | lets a throwing handler into the driver  |
 * | `notify()` never settles then                                    | lets a throwing handler into the driver  |
 * | a drop while it subscribes again is ignored                      | ignores a drop while it subscribes again |
 * | `close()` during a reconnect leaks a session                     | leaks a session when closed meanwhile    |
 * | a second `listenTo` resolves at once                             | resolves a second `listenTo` at once     |
 * | `connected` says nothing of a gap                                | says nothing of a gap                    |
 * | foreign payloads that are not JSON become errors                 | makes errors of foreign payloads         |
 * | a transaction pooler accepts LISTEN and delivers nothing         | believes in a transaction pooler         |
 * | a name over 63 bytes is cut by the server without a word         | never hears a channel with a long name   |
 */
import { execFile } from 'node:child_process'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { eventually, pgbouncer, tcpProxy, terminateBackend } from '@x/testkit'
import { describeWith, useDatabase } from '@x/testkit/vitest'
import pg from 'pg'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { channelName, connectionSource, type ListenerSession } from '../../src/index.ts'
import { bareSubscribers } from './bare-subscriber.ts'
import { applicationName, recordListeners } from './recorded-listener.ts'

const database = useDatabase()
const listen = recordListeners(database)
const { subscribe, sessions } = bareSubscribers(database)
const forever = { retryInterval: 20, retryTimeout: Number.POSITIVE_INFINITY }
const notify = (channel: string, payload: string): Promise<unknown> =>
  database.pool().query('SELECT pg_notify($1, $2)', [channel, payload])
afterEach(() => void vi.restoreAllMocks())

describe('after a loss, pg-listen', () => {
  it('gives up after three seconds; we go on', async () => {
    await using proxy = await tcpProxy(database.url)
    const connectionString = proxy.url(database.url)
    const bare = subscribe({ connectionString })
    const { listener, heard, resyncs } = listen({ url: connectionString })
    await bare.subscriber.connect()
    await bare.subscriber.listenTo('orders')
    await listener.listen('orders')
    proxy.refuse()
    proxy.cut()
    await eventually(() => bare.errors.some((message) => message.includes('after 3000ms')), { deadlineMs: 20_000 })
    expect(listener.state.status).toBe('connecting')
    proxy.heal()
    await eventually(() => resyncs.length === 2, { deadlineMs: 30_000 })
    await notify('orders', 'after')
    await eventually(() => heard.length === 1)
    expect(await sessions()).toHaveLength(0)
    expect(bare.heard).toEqual([])
  })

  // What we count on: a disposable subscriber is created without attempts of its own.
  it('makes no attempt with `retryLimit: 1`; we make as many as it takes', async () => {
    await using proxy = await tcpProxy(database.url)
    const bare = subscribe({ connectionString: proxy.url(database.url) }, { ...forever, retryLimit: 1 })
    const { listener, resyncs } = listen()
    await bare.subscriber.connect()
    await listener.listen('orders')
    await terminateBackend(database.pool(), { applicationName: 'bare' })
    await terminateBackend(database.pool(), { applicationName })
    await eventually(() => bare.errors.length === 1)
    expect(bare.errors[0]).toContain('Reconnecting notification client to PostgreSQL database failed')
    expect(bare.attempts).toBe(0)
    await eventually(() => resyncs.length === 2)
    expect(proxy.accepted).toBe(1)
  })

  // An IAM token service that is down: the server waits for a password until its own timeout.
  it('never ends a client that failed; we leave none open', async ({ skip }) => {
    await using bareProxy = await tcpProxy(database.url)
    await using proxy = await tcpProxy(database.url)
    const login = { failing: false, asked: 0 }
    const password = (): string => {
      login.asked += 1
      if (login.failing) throw new Error('no token')
      return decodeURIComponent(new URL(database.url).password)
    }
    const through = (port: number): pg.ClientConfig => {
      const { username, pathname } = new URL(database.url)
      return { host: '127.0.0.1', port, user: decodeURIComponent(username), database: pathname.slice(1), password }
    }
    const bare = subscribe(through(bareProxy.port), forever)
    const { listener, states, resyncs } = listen({
      source: connectionSource({ connection: () => through(proxy.port) }, 'test'),
    })
    await bare.subscriber.connect()
    if (login.asked === 0) skip('this server asks for no password')
    await listener.listen('orders')
    login.failing = true
    await terminateBackend(database.pool(), { applicationName: 'bare' })
    await terminateBackend(database.pool(), { applicationName })
    await eventually(() => bareProxy.open >= 3)
    await eventually(() => states.filter(({ status }) => status === 'connecting').length >= 4, { deadlineMs: 20_000 })
    login.failing = false
    await eventually(() => resyncs.length === 2, { deadlineMs: 30_000 })
    await eventually(() => proxy.open === 1)
    await eventually(() => bare.connected.length === 2)
    expect(bareProxy.open).toBeGreaterThan(3)
  })

  it('ignores a drop while it subscribes again, and stays deaf; we connect once more', async () => {
    await using bareProxy = await tcpProxy(database.url)
    await using proxy = await tcpProxy(database.url)
    const bare = subscribe({ connectionString: bareProxy.url(database.url) }, forever)
    await bare.subscriber.connect()
    await bare.subscriber.listenTo('orders')
    const bareSwallowed = bareProxy.swallowNextReply({ matching: 'LISTEN orders', after: 'end' })
    await terminateBackend(database.pool(), { applicationName: 'bare' })
    await bareSwallowed
    await eventually(() => bare.errors.length === 1)

    const { listener, heard, resyncs } = listen({ url: proxy.url(database.url) })
    await listener.listen('orders')
    const swallowed = proxy.swallowNextReply({ matching: 'LISTEN orders', after: 'end' })
    await terminateBackend(database.pool(), { applicationName })
    await swallowed
    await eventually(() => resyncs.length === 2)
    await notify('orders', 'after')
    await eventually(() => heard.length === 1)
    expect(listener.state.status).toBe('listening')
    expect(await sessions()).toHaveLength(0)
    expect(bare).toMatchObject({ attempts: 1, heard: [] })
  })

  it('leaks a session when closed meanwhile; we leave none', async () => {
    await using bareProxy = await tcpProxy(database.url)
    await using proxy = await tcpProxy(database.url)
    const bare = subscribe({ connectionString: bareProxy.url(database.url) }, forever)
    const { listener, states } = listen({ url: proxy.url(database.url) })
    await bare.subscriber.connect()
    await listener.listen('orders')
    bareProxy.delay(100)
    proxy.delay(100)
    const closed = new Promise<void>((resolve, reject) => {
      bare.subscriber.events.once('reconnect', () => bare.subscriber.close().then(resolve, reject))
    })
    await terminateBackend(database.pool(), { applicationName: 'bare' })
    await closed
    await eventually(async () => bare.connected.length === 2 && (await sessions()).length === 1)

    await terminateBackend(database.pool(), { applicationName })
    await eventually(() => states.filter(({ status }) => status === 'connecting').length > 1 && proxy.accepted > 1)
    await listener.close()
    await eventually(() => proxy.open === 0)
    expect(await sessions()).toHaveLength(1)
  })

  it('says nothing of a gap; we say how long it was', async () => {
    await using proxy = await tcpProxy(database.url)
    const bare = subscribe({ connectionString: proxy.url(database.url) }, forever)
    const { listener, resyncs } = listen({ url: proxy.url(database.url) })
    await bare.subscriber.connect()
    await bare.subscriber.listenTo('orders')
    await listener.listen('orders')
    proxy.refuse()
    proxy.cut()
    await eventually(() => bare.attempts >= 2)
    const deafFrom = performance.now()
    await notify('orders', 'nobody hears this')
    await delay(200)
    const deafForMs = performance.now() - deafFrom
    proxy.heal()
    await eventually(() => bare.connected.length === 2)
    await eventually(() => resyncs.length === 2, { deadlineMs: 20_000 })
    expect(bare.connected).toEqual([[], []])
    expect(bare.heard).toEqual([])
    expect(resyncs[0]).toEqual({ first: true, gapMs: 0 })
    expect(resyncs[1]?.first).toBe(false)
    expect(resyncs[1]?.gapMs).toBeGreaterThanOrEqual(deafForMs)
  })
})

describe('on a line that is dead, pg-listen', () => {
  it('waits for its own check for ever and sends it again and again; we ask once and connect anew', async () => {
    await using proxy = await tcpProxy(database.url)
    const connectionString = proxy.url(database.url)
    const bare = subscribe({ connectionString }, { paranoidChecking: 20 })
    const { listener, heard, resyncs } = listen({ url: connectionString, detectMs: 600 })
    await bare.subscriber.connect()
    await bare.subscriber.listenTo('orders')
    await listener.listen('orders')
    const sent = vi.spyOn(pg.Client.prototype, 'query')
    proxy.halfOpen()
    const checks = (text: string): { client: unknown; outcome: string }[] =>
      sent.mock.calls.flatMap((call, n) =>
        JSON.stringify(call[0]).includes(text)
          ? [{ client: sent.mock.contexts[n], outcome: sent.mock.settledResults[n]?.type ?? 'incomplete' }]
          : [],
      )
    await eventually(() => checks('pg_backend_pid').filter(({ outcome }) => outcome === 'incomplete').length >= 5)
    await eventually(() => resyncs.length === 2, { deadlineMs: 20_000 })
    await notify('orders', 'after')
    await eventually(() => heard.length === 1)
    expect(bare).toMatchObject({ attempts: 0, errors: [], heard: [] })
    const [first] = checks('pg_listening_channels')
    expect(checks('pg_listening_channels').filter(({ client }) => client === first?.client)).toHaveLength(1)
  })
})

describe('pg-listen', () => {
  it('lets a throwing handler into the driver, and notify() never settles; ours breaks nothing', async () => {
    const fixture = fileURLToPath(new URL('../fixtures/bare-throwing-handler.ts', import.meta.url))
    // In a process of its own: what escapes ends one.
    const bare = promisify(execFile)(process.execPath, [fixture, database.url], { timeout: 120_000 })
    let session: ListenerSession | null = null
    const thrown: string[] = []
    const { listener, logged } = listen({
      onConnected: async (own) => {
        session = own
      },
      onNotification: (_channel, payload) => {
        thrown.push(payload)
        throw new Error('thrown by the handler')
      },
    })
    await listener.listen('orders')
    // On the same connection: the notification stands before the answer.
    const send = { name: 'send', text: `SELECT pg_notify('orders', $1)` }
    for (const payload of ['1', '2']) {
      expect(await (session as ListenerSession | null)?.query(send, [payload])).toHaveLength(1)
    }
    await eventually(() => thrown.length === 2)
    expect(logged).toContain('listener: onNotification threw')
    expect(listener.state.status).toBe('listening')
    expect(JSON.parse((await bare).stdout)).toEqual({ uncaught: 'thrown by the handler', settled: false })
  })

  it('resolves a second `listenTo` at once; ours waits for the first', async () => {
    await using proxy = await tcpProxy(database.url)
    const bare = subscribe({ connectionString: proxy.url(database.url) })
    const { listener } = listen({ url: proxy.url(database.url), detectMs: 60_000 })
    await bare.subscriber.connect()
    await listener.listen('first')
    proxy.blackHole('to-client')
    const settled: string[] = []
    const listening = [bare.subscriber.listenTo('orders')?.then(() => settled.push('bare'))]
    for (const name of ['first', 'second']) {
      listening.push(listener.listen('orders').then(() => settled.push(name)))
    }
    await bare.subscriber.listenTo('orders')
    await delay(50)
    expect(settled).toEqual([])
    proxy.heal()
    await Promise.all(listening)
    expect(settled).toHaveLength(3)
  })

  it('makes errors of foreign payloads; we deliver them as they were sent', async () => {
    const bare = subscribe({ connectionString: database.url }, { parse: JSON.parse })
    const { listener, heard } = listen()
    await bare.subscriber.connect()
    await bare.subscriber.listenTo('orders')
    await listener.listen('orders')
    await notify('orders', 'not { json')
    await eventually(() => bare.errors.length === 1 && heard.length === 1)
    expect(bare.errors[0]).toContain('Error parsing PostgreSQL notification payload')
    expect(bare.heard).toEqual([])
    expect(heard).toEqual([['orders', 'not { json']])
  })

  it('never hears a channel with a long name; ours is hashed to fit', async () => {
    const name = 'x'.repeat(70)
    const bare = subscribe({ connectionString: database.url })
    const byName: unknown[] = []
    bare.subscriber.notifications.on(name, (payload) => byName.push(payload))
    const { listener, heard } = listen()
    await bare.subscriber.connect()
    await bare.subscriber.listenTo(name)
    await listener.listen(name)
    // The server refuses the long name in pg_notify, and cuts it in NOTIFY: two names that differ behind byte 63 are one.
    await expect(notify(name, '')).rejects.toThrow('channel name too long')
    await database.pool().query(`NOTIFY "${'x'.repeat(63)}z"`)
    await notify(channelName(name), 'here')
    await eventually(() => bare.heard.length === 1 && heard.length === 1)
    expect(bare.heard[0]?.[0]).toBe('x'.repeat(63))
    expect(byName).toEqual([])
    expect(heard).toEqual([[channelName(name), 'here']])
  })
})

describeWith('pgbouncer', 'behind a pooler that hands the session on, pg-listen', () => {
  it('believes in it and hears nothing; we refuse', async () => {
    await using pooler = await pgbouncer({ url: database.url, mode: 'transaction' })
    const bare = subscribe({ connectionString: pooler.url(database.url) })
    await bare.subscriber.connect()
    await bare.subscriber.listenTo('orders')
    const { listener, states } = listen({ url: pooler.url(database.url) })
    await expect(listener.listen('orders')).rejects.toMatchObject({ code: 'POOLER_DETECTED' })
    expect(states.at(-1)).toMatchObject({ status: 'refused', error: { code: 'POOLER_DETECTED' } })
    await expect(listener.listen('others')).rejects.toMatchObject({ code: 'POOLER_DETECTED' })
    const sound = listen()
    await sound.listener.listen('orders')
    await notify('orders', '')
    await eventually(() => sound.heard.length === 1)
    expect(bare.heard).toEqual([])
  })
})
