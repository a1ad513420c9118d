import { eventually, withAdmin } from '@x/testkit'
import { useDatabase } from '@x/testkit/vitest'
import { describe, expect, it } from 'vitest'
import { type DemoProcess, isAlive, startDemo } from '../demo-process.ts'

const database = useDatabase({ leakCheck: 'off' })

/** Five seconds are the promise; the rest is for a machine that is busy. */
const deadlineMs = 20_000

const nothingLeft = async (demo: DemoProcess, processes: readonly number[]): Promise<void> => {
  await eventually(async () => !processes.some(isAlive) && (await demo.leftFiles()).length === 0, {
    deadlineMs,
    what: 'every process and file of the demo to be gone',
  })
}

describe('after the demo', () => {
  it('nothing is left five seconds after kill -9, not even of a replica that is stopped', async () => {
    await using demo = await startDemo(['--duration', '10'])
    await demo.says(/SIGSTOP to node-\d/)
    const processes = demo.descendants()
    expect(processes.length).toBeGreaterThan(10) // replicas, load, guard, keeper, postgres and its backends
    demo.signal('SIGKILL')
    await nothingLeft(demo, processes)
  })

  it('nothing is left five seconds after kill -9 of what started it', async () => {
    await using demo = await startDemo(['--duration', '10'], { throughShell: true })
    await demo.says(/handled its first batch/)
    const processes = demo.descendants()
    demo.signal('SIGKILL')
    await nothingLeft(demo, processes)
  })

  it('no database is left on the server of the user after kill -9', async () => {
    await using demo = await startDemo(['--duration', '10', '--url', database.adminUrl])
    await demo.says(/handled its first batch/)
    const name = /database (order_pipeline_\w+)/.exec(demo.output())?.[1]
    const count = () =>
      withAdmin(database.adminUrl, async (client) => {
        const { rowCount } = await client.query('SELECT FROM pg_database WHERE datname = $1', [name])
        return rowCount
      })
    expect(await count()).toBe(1)
    const processes = demo.descendants()
    demo.signal('SIGKILL')
    await nothingLeft(demo, processes)
    await eventually(async () => (await count()) === 0, { deadlineMs, what: `${name} to be dropped` })
  })

  it.each([
    ['while PostgreSQL starts', /Starting PostgreSQL/],
    ['while the tables are created', /Creating the tables/],
    ['while the replicas work', /SIGKILL to node-\d/],
    ['while a replica is stopped', /SIGSTOP to node-\d/],
  ])('nothing is left after Ctrl-C %s', async (_, moment) => {
    await using demo = await startDemo(['--duration', '10'])
    await demo.says(moment)
    const processes = demo.descendants()
    demo.signal('SIGINT')
    expect(await demo.ended).toEqual({ code: 130, signal: null })
    expect(demo.output()).toContain('Stopped by Ctrl-C')
    await nothingLeft(demo, processes)
  })
})
