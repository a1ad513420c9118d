import { lockId } from '@x/lock-core'
import { eventually } from '@x/testkit'
import { useDatabase } from '@x/testkit/vitest'
import type { Client } from 'pg'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { lockStatements, step } from '../../src/statements.ts'

/** Two sessions, stepped by hand through every order that matters: random schedules do not meet these. */
const database = useDatabase()
const gate = lockId(0, '')
const channel = 'no_lost_wake_up'
const statements = lockStatements(gate, channel, null)
const id = String(lockId(0, 'a key'))

let waiter: Client
let holder: Client
let heard: string[]

beforeEach(async () => {
  waiter = await database.client()
  holder = await database.client()
  heard = []
  waiter.on('notification', ({ payload }) => heard.push(payload ?? ''))
  await waiter.query(`LISTEN ${channel}`)
  await holder.query('SELECT pg_advisory_lock($1)', [id])
})
afterEach(() => Promise.all([waiter.end(), holder.end()]))

const rows = async (client: Client, statement: { name: string; text: string }, values: unknown[]) =>
  (await client.query<unknown[]>({ ...statement, values, rowMode: 'array' })).rows[0] ?? []

/** What a waiter sends before it sleeps: '{t,t,f}' is both announcements made, lock still taken. */
const announceAndTry = async (client = waiter): Promise<unknown> => {
  const steps = [step.announce, step.announce, step.tryExclusive].join(',')
  return (await rows(client, statements.exchange, [`{${gate},${id},${id}}`, `{${steps}}`]))[0]
}
/** What a release of the id sends, alone and as one of many. */
const releases = [
  ['alone', (client: Client) => rows(client, statements.releaseOne, [id])],
  ['as one of many', (client: Client) => rows(client, statements.release, [`{${id}}`])],
] as const

describe.each(releases)('a waiter that sleeps while the lock is free would sleep for ever (%s)', (_, send) => {
  /** The ids for which the releaser told somebody. */
  const release = async (client = holder): Promise<unknown> => (await send(client))[1]

  it('announced before the release: the releaser sees it and tells', async () => {
    expect(await announceAndTry()).toBe('{t,t,f}')
    expect(await release()).toBe(`{${id}}`)
    await eventually(() => heard.length > 0)
    expect(heard).toEqual([id])
    expect(await announceAndTry()).toBe('{t,t,t}')
  })

  it('announced after the release: nobody is told, and the try that follows gets the lock', async () => {
    expect(await release()).toBe(null)
    expect(await announceAndTry()).toBe('{t,t,t}')
  })

  it('announced while the releaser probes: the announcement fails, which the waiter knows, and the lock is free already', async () => {
    await holder.query('BEGIN')
    expect(await release()).toBe(null)
    expect(await announceAndTry()).toBe('{f,t,t}')
    await holder.query('COMMIT')
  })

  it('the same, and a third was faster: the waiter repeats the announcement until it is made, and is told by the third', async () => {
    const third = await database.client()
    await holder.query('BEGIN')
    // Somebody else is announced, so the releaser goes on from the gate to the probe of the id.
    await rows(third, statements.exchange, [`{${gate}}`, `{${step.announce}}`])
    expect(await release()).toBe(null)
    expect((await rows(third, statements.acquire, [`{${id}}`]))[0]).toBe('{t}')
    expect(await announceAndTry()).toBe('{t,f,f}')
    await holder.query('COMMIT')
    expect(await announceAndTry()).toBe('{t,t,f}')
    expect(await release(third)).toBe(`{${id}}`)
    await eventually(() => heard.length > 0)
    await third.end()
  })

  it('in the wrong order, tried before it announced, it is lost: this is what the order is for', async () => {
    expect((await rows(waiter, statements.acquire, [`{${id}}`]))[0]).toBe('{f}')
    expect(await release()).toBe(null)
    await rows(waiter, statements.exchange, [`{${gate},${id}}`, `{${step.announce},${step.announce}}`])
    await waiter.query('SELECT 1')
    expect(heard).toEqual([])
    expect((await rows(waiter, statements.acquire, [`{${id}}`]))[0]).toBe('{t}')
  })

  it('an attempt at several ids that gives back what it took tells those who met it meanwhile', async () => {
    const other = String(lockId(0, 'another key'))
    const third = await database.client()
    await third.query('BEGIN')
    // Within one transaction the two halves of tryAll can be stepped: take, let the waiter come, give back.
    await rows(third, statements.acquire, [`{${other}}`])
    const steps = [step.announce, step.announce, step.tryExclusive].join(',')
    expect((await rows(waiter, statements.exchange, [`{${gate},${other},${other}}`, `{${steps}}`]))[0]).toBe('{t,t,f}')
    await third.query('COMMIT')
    await rows(third, statements.release, [`{${other}}`])
    await eventually(() => heard.includes(other))
    // And tryAll itself, with the waiter in place: it takes `other`, meets the holder at `id`, and gives `other` back.
    heard.length = 0
    expect((await rows(third, statements.tryAll, [`{${other},${id}}`, 'f'])).slice(0, 1)).toEqual([false])
    await eventually(() => heard.includes(other))
    await third.end()
  })
})

describe('a release that nobody waits for', () => {
  const others = [1, 2, 3, 4, 5].map((name) => String(lockId(0, `key ${name}`)))
  it.each([
    ['six', [id, ...others], statements.release, [`{${[id, ...others].join(',')}}`]],
    ['one', [id], statements.releaseOne, [id]],
  ] as const)(
    'tells nobody, and probes the gate alone, whatever the number of ids: %s',
    async (_, ids, statement, values) => {
      for (const other of ids.slice(1)) await holder.query('SELECT pg_advisory_lock($1)', [other])
      // In a transaction the probes stay, and can be counted.
      await holder.query('BEGIN')
      expect(await rows(holder, statement, [...values])).toEqual([null, null])
      const { rows: probes } = await holder.query(
        `SELECT objsubid FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()`,
      )
      expect(probes).toEqual([{ objsubid: 2 }])
      await holder.query('COMMIT')
    },
  )

  it.each(releases)('is not held up by the interest of its own session (%s)', async (_, send) => {
    await rows(holder, statements.exchange, [`{${gate},${id}}`, `{${step.announce},${step.announce}}`])
    expect(await send(holder)).toEqual([null, null])
  })

  it('tells only the ids that somebody waits for', async () => {
    const other = String(lockId(0, 'another key'))
    await holder.query('SELECT pg_advisory_lock($1)', [other])
    expect(await announceAndTry()).toBe('{t,t,f}')
    expect((await rows(holder, statements.release, [`{${other},${id}}`]))[1]).toBe(`{${id}}`)
    await eventually(() => heard.length > 0)
    expect(heard).toEqual([id])
  })

  it.each(releases)('names the ids that the session did not hold (%s)', async (_, send) => {
    expect(await send(waiter)).toEqual([`{${id}}`, null])
  })
})
