import { setTimeout as delay } from 'node:timers/promises'
import { eventually, tcpProxy, terminateBackend } from '@x/testkit'
import { useDatabase } from '@x/testkit/vitest'
import type { Client } from 'pg'
import { afterEach, describe, expect, it } from 'vitest'
import {
  createLibclusterDiscovery,
  type LibclusterDiscovery,
  type LibclusterDiscoveryOptions,
} from '../../src/index.ts'

const database = useDatabase()

const open: LibclusterDiscovery[] = []
afterEach(async () => {
  await Promise.all(open.splice(0).map((each) => each.close()))
})
const create = (nodeName: string, more: Partial<LibclusterDiscoveryOptions> = {}): LibclusterDiscovery => {
  const discovery = createLibclusterDiscovery({
    connectionString: database.url,
    nodeName,
    heartbeatIntervalMs: 1_000,
    ...('cookie' in more ? {} : { channelName: 'cluster' }),
    ...more,
  })
  open.push(discovery)
  return discovery
}
const quoted = (channel: string): string => `"${channel.replaceAll('"', '""')}"`

/** A node as the original is one: it listens, and sends its bare name when told. */
const plainNode = async (
  channel: string,
): Promise<{ heard: string[]; say: (text: string) => Promise<unknown>; client: Client }> => {
  const client = await database.client()
  const heard: string[] = []
  client.on('notification', ({ payload }) => heard.push(payload ?? ''))
  await client.query(`LISTEN ${quoted(channel)}`)
  return { heard, say: (text) => client.query(`NOTIFY ${quoted(channel)}, '${text.replaceAll("'", "''")}'`), client }
}

describe('among plain nodes', () => {
  it('is heard at once and then every interval, and hears them', async () => {
    const plain = await plainNode('cluster')
    const ours = create('ours@host', { heartbeatIntervalMs: 60_000 })
    const often = create('often@host', { heartbeatIntervalMs: 100 })
    const joined: string[] = []
    ours.on('join', (name) => joined.push(name))
    await ours.start()
    await eventually(() => plain.heard.includes('ours@host'), {
      what: 'a heartbeat long before the first interval ends',
    })
    await often.start()
    await eventually(() => plain.heard.filter((name) => name === 'often@host').length >= 3)
    await plain.say('theirs@host')
    await eventually(() => joined.length === 2)
    expect(ours.nodes()).toEqual(['often@host', 'theirs@host'])
    expect(new Set(plain.heard)).toEqual(new Set(['ours@host', 'often@host', 'theirs@host']))
    await plain.client.end()
  })

  it.each([
    ['needs "quoting"; DROP TABLE x', undefined],
    ['4digits', undefined],
    ['UPPER case', undefined],
    ['ä'.repeat(60), 'ä'.repeat(31)],
    ['x'.repeat(64), 'x'.repeat(63)],
  ])('meets them on the channel %s', async (channelName, cut) => {
    const plain = await plainNode(channelName)
    const ours = create('ours@host', { channelName, heartbeatIntervalMs: 60_000 })
    expect(ours.channelName).toBe(cut ?? channelName)
    await ours.start()
    await plain.say('theirs@host')
    await eventually(() => ours.nodes().length === 1 && plain.heard.includes('ours@host'))
    await plain.client.end()
  })

  it('says what no waiting heals instead of waiting for it', async () => {
    const elsewhere = new URL(database.url)
    elsewhere.pathname = '/no_such_database'
    const ours = create('ours@host', { connectionString: elsewhere.href })
    const refused = { code: 'CONNECTION', retryable: false, message: expect.stringContaining('create it') }
    const starts = [ours.start(), ours.start()]
    await expect(starts[0]).rejects.toMatchObject(refused)
    await expect(starts[1]).rejects.toMatchObject(refused)
    await expect(ours.start()).rejects.toMatchObject(refused)
    await ours.close()
    await expect(ours.start()).rejects.toMatchObject({ code: 'CLOSED' })
  })

  it('derives the channel of a cookie as they do', async () => {
    const plain = await plainNode('my_random__123_long_cookie')
    const ours = create('ours@host', { cookie: 'my-random-#123-long-cookie' })
    await ours.start()
    await eventually(() => plain.heard.includes('ours@host'))
    await plain.client.end()
  })

  it('survives whatever else is said on the channel', async () => {
    const plain = await plainNode('cluster')
    const ours = create('ours@host', { heartbeatIntervalMs: 60_000 })
    await ours.start()
    for (const text of ['', 'hello', '{"node": 1}', 'a b@c', `${'x'.repeat(300)}@h`, 'ours@host']) await plain.say(text)
    await plain.say('theirs@host')
    await eventually(() => ours.nodes().length > 0)
    expect(ours.nodes()).toEqual(['theirs@host'])
    await plain.client.end()
  })

  it('forgets those not heard for three intervals', async () => {
    const plain = await plainNode('cluster')
    const ours = create('ours@host', { heartbeatIntervalMs: 200 })
    const seen: string[] = []
    ours.on('join', (name) => seen.push(`join ${name}`))
    ours.on('down', (name) => seen.push(`down ${name}`))
    await ours.start()
    const saidAt = performance.now()
    await plain.say('theirs@host')
    await eventually(() => seen.length === 2)
    expect(performance.now() - saidAt).toBeGreaterThan(3 * 200)
    expect(seen).toEqual(['join theirs@host', 'down theirs@host'])
    expect(ours.nodes()).toEqual([])
    await plain.client.end()
  })

  it('reconnects, and blames nobody for the silence meanwhile', async () => {
    await using proxy = await tcpProxy(database.url)
    // Long enough that a pause of this process, in which both nodes live, is no silence of three intervals.
    const intervalMs = 500
    const ours = create('ours@host', {
      connectionString: proxy.url(database.url),
      heartbeatIntervalMs: intervalMs,
    })
    const plain = await plainNode('cluster')
    let isSaying = true
    const saying = (async () => {
      for (; isSaying; await delay(100)) await plain.say('theirs@host')
    })()
    const down: string[] = []
    ours.on('down', (name) => down.push(name))
    await ours.start()
    await eventually(() => ours.nodes().length === 1)
    proxy.refuse()
    proxy.cut()
    await eventually(() => !ours.isConnected)
    const cutAt = performance.now()
    await eventually(() => performance.now() - cutAt > 3.5 * intervalMs)
    expect(ours.nodes()).toEqual(['theirs@host'])
    proxy.heal()
    await eventually(() => ours.isConnected, { deadlineMs: 10_000 })
    const heartbeats = (): number => plain.heard.filter((name) => name === 'ours@host').length
    const before = heartbeats()
    await eventually(() => heartbeats() > before + 1)
    await terminateBackend(database.pool({ max: 1 }), { applicationName: 'cluster-discovery' })
    const afterwards = heartbeats()
    await eventually(() => heartbeats() > afterwards + 1)
    isSaying = false
    await saying
    expect(down).toEqual([])
    await plain.client.end()
  })

  it('tries to connect again with each heartbeat, and disconnects from the forgotten', async () => {
    const plain = await plainNode('cluster')
    const calls: string[] = []
    const ours = create('ours@host', {
      heartbeatIntervalMs: 700,
      connect: async (name) => {
        calls.push(`connect ${name}`)
        if (calls.length < 3) throw new Error('refused')
      },
      disconnect: (name) => calls.push(`disconnect ${name}`),
    })
    await ours.start()
    for (let heartbeat = 1; heartbeat <= 4; heartbeat += 1) {
      await plain.say('theirs@host')
      await eventually(() => calls.length >= Math.min(heartbeat, 3))
    }
    await eventually(() => calls.includes('disconnect theirs@host'))
    expect(calls).toEqual([...Array.from({ length: 3 }, () => 'connect theirs@host'), 'disconnect theirs@host'])
    await plain.client.end()
  })
})

describe('use', () => {
  it.each([
    [{ nodeName: 'nobody' }, 'nodeName'],
    [{ channelName: undefined }, 'channelName'],
    [{ cookie: 'both', channelName: 'both' }, 'channelName'],
    [{ channelName: 'a\0b' }, 'channelName'],
    [{ heartbeatIntervalMs: 1 }, 'heartbeatIntervalMs'],
  ])('refuses %j', (wrong, option) => {
    const base = { connectionString: database.url, nodeName: 'a@b', channelName: 'cluster' }
    expect(() => createLibclusterDiscovery({ ...base, ...wrong })).toThrow(
      expect.objectContaining({ code: 'INVALID_OPTIONS', option }),
    )
  })

  it('is over after close, also while it connects', async () => {
    const closed = create('a@b')
    await closed.start()
    await closed.close()
    await expect(closed.start()).rejects.toMatchObject({ code: 'CLOSED' })
    expect(closed.isConnected).toBe(false)
    const unreachable = create('a@b', { connectionString: 'postgres://u:secret@127.0.0.1:1/none' })
    const starting = expect(unreachable.start()).rejects.toMatchObject({ code: 'CLOSED' })
    await eventually(() => unreachable.lastError !== null)
    expect(unreachable.lastError).toMatchObject({ code: 'CONNECTION', retryable: true })
    await unreachable.close()
    await starting
  })
})
