import { eventually, startPrivatePostgres, withAdmin, withDatabase } from '@x/testkit'
import { useDatabase } from '@x/testkit/vitest'
import { expect, it, vi } from 'vitest'
import { startDemo } from '../demo-process.ts'

/** A run takes a tenth of this when the machine is idle; on one with too much to do, takeovers take their time. */
vi.setConfig({ testTimeout: 300_000 })

const database = useDatabase({ leakCheck: 'off' })

it('survives every fault within a few seconds, and says so with its exit code', async () => {
  await using demo = await startDemo(['--duration', '8', '--nodes', '3', '--url', database.adminUrl])
  const { code } = await demo.ended
  const output = demo.output()
  expect(output).toContain('Nothing was lost, doubled, inverted or overlapped.')
  expect(output.match(/handled its first batch as the leader of epoch \d+, [\d.]+ s after the fault/g)).toHaveLength(2)
  expect(output).toMatch(/SIGKILL to node-\d, which leads/)
  expect(output).toMatch(/node-\d goes on after [\d.]+ s, long after its lease/)
  expect(output).toMatch(/pg_terminate_backend on the connection of node-\d, which leads, in the middle of a batch/)
  expect(output).toMatch(/pg_terminate_backend on the session with which node-\d holds the lock/)
  expect(output).toMatch(/The index has read \d+ orders while they were written to/)
  expect(output).toMatch(/indexer-\d has parked order \d+ and goes on with the others; SIGKILL to indexer-\d/)
  expect(output).toMatch(/Its successor goes on as well, and keeps the order parked/)
  expect(output).toMatch(/the order replayed: [1-9]\d* changes in order, 0 still parked/)
  expect(output).not.toMatch(/FAIL/)
  expect(code).toBe(0)
})

it('fails with its exit code when an effect disappears while it runs', async () => {
  await using demo = await startDemo(['--duration', '5', '--nodes', '2', '--url', database.adminUrl])
  await demo.says(/handled its first batch/)
  const name = /database (order_pipeline_\w+)/.exec(demo.output())?.[1] ?? ''
  const taken = await withAdmin(withDatabase(database.adminUrl, name), (client) =>
    eventually(async () => {
      const { rows } = await client.query<{ what: string }>(
        `DELETE FROM effects WHERE position = (SELECT min(position) FROM effects)
         RETURNING format('%s of order %s, revision %s', operation, order_id, revision) AS what`,
      )
      return rows[0]?.what
    }),
  )
  const { code } = await demo.ended
  const output = demo.output()
  expect(output, output).toMatch(/FAIL {2}Lost: .* 1 in /)
  expect(output).toContain(taken)
  expect(code).toBe(1)
})

it('goes on until Ctrl-C with --keep, and then audits; one keypress that arrives twice is one', async () => {
  await using demo = await startDemo(['--keep', '--duration', '5', '--nodes', '3', '--url', database.adminUrl])
  await demo.says(/node-\d goes on after/)
  demo.signal('SIGINT')
  demo.signal('SIGINT')
  const { code } = await demo.ended
  expect(demo.output()).toContain('Nothing was lost, doubled, inverted or overlapped.')
  expect(code).toBe(0)
})

it('says what it needs when the server does not answer, and never the password', async () => {
  await using demo = await startDemo(['--url', 'postgres://me:secret@127.0.0.1:1/postgres'])
  const { code } = await demo.ended
  expect(demo.output()).toMatch(/expected a PostgreSQL server that answers.*got: connect ECONNREFUSED/)
  expect(demo.output()).not.toContain('secret')
  expect(code).toBe(1)
})

it('runs as a user who may create databases and roles and nothing else, and says what another one lacks', async () => {
  await using server = await startPrivatePostgres() // roles belong to a server
  await withAdmin(server.url, async (client) => {
    const roles = ['plain LOGIN CREATEDB', 'maker LOGIN CREATEDB CREATEROLE']
    for (const role of roles) await client.query(`CREATE ROLE ${role} PASSWORD 'x'`)
  })
  const runAs = async (user: string) => {
    const url = new URL(server.url)
    url.username = user
    url.password = 'x'
    await using demo = await startDemo(['--duration', '5', '--nodes', '2', '--url', url.href])
    const { code } = await demo.ended
    return { code, output: demo.output() }
  }
  const plain = await runAs('plain')
  expect(plain.output).toMatch(/^migrate: expected the right to create .*GRANT coordination_capture TO "plain"/m)
  expect(plain.output).not.toMatch(/ at .*\.ts:/) // a sentence and not a stack
  expect(plain.code).toBe(1)
  const maker = await runAs('maker')
  expect(maker.code, maker.output).toBe(0)
})
