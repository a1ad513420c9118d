import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { hasErrorCode } from '@x/lock-core'
import { type PrivatePostgres, startPrivatePostgres } from '@x/testkit'
import pg from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createRunner, migrate } from '../../src/index.ts'

let server: PrivatePostgres
const pools: pg.Pool[] = []
const poolOf = (settings: pg.PoolConfig = {}): pg.Pool => {
  const pool = new pg.Pool({ connectionString: server.url, ...settings })
  pool.on('error', () => {})
  pools.push(pool)
  return pool
}
beforeAll(async () => {
  server = await startPrivatePostgres()
})
afterAll(async () => {
  await Promise.all(pools.map((pool) => pool.end()))
  await server.stop()
})

describe('a migrator who does what the messages say', () => {
  it.each(['its own', 'an existing'])(
    'gets there in %s schema, on a server without the capture role',
    async (whose) => {
      const admin = poolOf()
      const schema = whose === 'its own' ? 'own' : 'existing'
      await admin.query(`CREATE ROLE ${schema}_migrator`)
      if (whose === 'an existing') await admin.query(`CREATE SCHEMA ${schema}`)
      const weak = poolOf({ max: 1 })
      weak.on('connect', (client) => void client.query(`SET ROLE ${schema}_migrator`))
      const input = { package: 'leader-input', migrations: ['0004_leader_input'] }
      const granted: string[] = []
      const attempt = async (): Promise<readonly string[]> => {
        try {
          return (await migrate(weak, input, { schema })).applied
        } catch (error) {
          const said = /run as an administrator (.+?)(?: \(or .+\))?; or let /.exec(String(error))?.[1]
          if (!hasErrorCode(error, 'PRIVILEGE') || said === undefined || granted.includes(said)) throw error
          expect(String(error)).not.toContain('<role>')
          await admin.query(said)
          granted.push(said)
          return attempt()
        }
      }
      expect(await attempt()).toEqual(['0004_leader_input'])
      expect(granted.length).toBeGreaterThan(1)
      await admin.query(`DROP SCHEMA ${schema} CASCADE; DROP ROLE coordination_capture`)
    },
  )
})

describe('a server that is stopping', () => {
  it('is said to take no connections, which a later try may change', async () => {
    const last = await poolOf().connect()
    const [postmaster] = readFileSync(join(server.directory, 'data', 'postmaster.pid'), 'utf8').split('\n')
    // "Smart" shutdown: it waits for the last session, and takes no other.
    process.kill(Number(postmaster), 'SIGTERM')
    try {
      const runner = createRunner({ pool: poolOf(), applicationName: 'fresh-server' })
      await expect(runner.query({ name: 'one', text: 'SELECT 1' }, [])).rejects.toMatchObject({
        code: 'CONNECTION',
        retryable: true,
        message: expect.stringMatching(/^database connection: expected a server that takes connections, got: /),
        cause: { code: '57P03' },
      })
    } finally {
      last.release(true)
    }
  })
})
