import { eventually } from '@x/testkit'
import { useDatabase } from '@x/testkit/vitest'
import { describe, expect, it } from 'vitest'
import { connectionSource, createListener } from '../../src/index.ts'

const database = useDatabase()

describe('listener', () => {
  it('delivers raw payloads, and resyncs once it listens', async () => {
    const heard: [string, string][] = []
    const resyncs: unknown[] = []
    const listener = createListener({
      source: connectionSource({ connectionString: database.url }, 'test'),
      applicationName: 'pg-session listener',
      onNotification: (channel, payload) => heard.push([channel, payload]),
      onResync: (event) => resyncs.push(event),
    })
    await listener.listen('orders')
    expect(listener.state.status).toBe('listening')
    expect(resyncs).toEqual([{ first: true, gapMs: 0 }])
    const client = await database.client()
    await client.query(`NOTIFY orders, 'not json'`)
    await client.query(`NOTIFY orders`)
    await eventually(() => heard.length === 2)
    expect(heard).toEqual([
      ['orders', 'not json'],
      ['orders', ''],
    ])
    await listener.close()
    expect(listener.state.status).toBe('closed')
  })
})
