import { backendsNamed, eventually, pgbouncer, tcpProxy, terminateBackend } from '@x/testkit'
import { describeWith, useDatabase } from '@x/testkit/vitest'
import { afterEach, describe, expect, it } from 'vitest'
import { createRunner, type Runner, type RunnerOptions } from '../../src/index.ts'

const database = useDatabase()
const applicationName = 'pg-session runner'
const open: Runner[] = []
const runnerOf = (options: Omit<RunnerOptions, 'applicationName'>): Runner => {
  const runner = createRunner({ applicationName, ...options })
  open.push(runner)
  return runner
}
afterEach(async () => {
  await Promise.all(open.splice(0).map((runner) => runner.close()))
})

const one = { name: 'one', text: 'SELECT 1' }
const echo = { name: 'echo', text: 'SELECT $1::text AS said, $2::int AS number' }
const sleep = { name: 'sleep', text: 'SELECT pg_sleep($1)' }

describe('a runner on the caller’s pool', () => {
  it('gives rows as arrays, prepares by name, and leaves the pool open', async () => {
    const pool = database.pool({ max: 1 })
    const runner = runnerOf({ pool })
    expect(await runner.query(echo, ['x', 2])).toEqual([['x', 2]])
    expect(await runner.query(echo, ['y', 3])).toEqual([['y', 3]])
    const prepared = await runner.query({ name: 'p', text: 'SELECT name FROM pg_prepared_statements ORDER BY 1' }, [])
    expect(prepared.flat()).toEqual([expect.stringMatching(/^echo_[0-9a-f]{12}$/), expect.stringMatching(/^p_/)])
    await runner.close()
    expect((await pool.query('SELECT 1 AS n')).rows).toEqual([{ n: 1 }])
    await expect(runner.query(one, [])).rejects.toMatchObject({ code: 'CLOSED' })
  })

  it('takes whatever has connect() and query(text, values)', async () => {
    const pool = database.pool()
    const foreign = {
      options: {},
      connect: async () => {
        const client = await pool.connect()
        return {
          query: (text: string, values?: unknown[]) => client.query(text, values),
          release: (destroy?: boolean | Error) => client.release(destroy),
        }
      },
    }
    const runner = runnerOf({ pool: foreign })
    expect(await runner.query(echo, ['x', 2])).toEqual([['x', 2]])
    expect(await runner.transaction((transaction) => transaction.query(echo, ['z', 5]))).toEqual([['z', 5]])
  })

  it('gives up a statement in time, destroys its client, and goes on with another', async () => {
    const pool = database.pool({ max: 1 })
    const runner = runnerOf({ pool })
    // Connected before, so that the time is the statement's alone.
    await runner.query(one, [])
    await expect(runner.query(sleep, [30], { timeoutMs: 150 })).rejects.toMatchObject({
      code: 'CONNECTION',
      message: expect.stringContaining('expected an answer within 150 ms, got none'),
    })
    expect(await runner.query(one, [])).toEqual([[1]])
  })

  it('gives up when the caller does, with the caller’s reason', async () => {
    const runner = runnerOf({ pool: database.pool({ max: 1 }) })
    const reason = new Error('enough')
    const controller = new AbortController()
    const running = runner.query(sleep, [30], { signal: controller.signal })
    setTimeout(() => controller.abort(reason), 50)
    await expect(running).rejects.toBe(reason)
    await expect(runner.query(one, [], { signal: AbortSignal.abort(reason) })).rejects.toBe(reason)
    expect(await runner.query(one, [])).toEqual([[1]])
  })

  it('says that the pool is exhausted, and gives back the client that comes too late', async () => {
    const pool = database.pool({ max: 1 })
    const runner = runnerOf({ pool })
    const held = await pool.connect()
    await expect(runner.query(one, [], { timeoutMs: 100 })).rejects.toMatchObject({
      code: 'CONNECTION',
      message: expect.stringContaining('the pool gave no client within 100 ms (1 open, 1 callers waiting)'),
    })
    held.release()
    await eventually(() => pool.idleCount === 1)
    expect(await runner.query(one, [])).toEqual([[1]])
  })

  it('says that the database cannot be reached', async () => {
    const runner = runnerOf({ pool: database.pool({ connectionString: 'postgres://127.0.0.1:1/none' }) })
    await expect(runner.query(one, [])).rejects.toMatchObject({ code: 'CONNECTION', retryable: true })
    await expect(runner.transaction(async () => {})).rejects.toMatchObject({ code: 'CONNECTION' })
  })

  it('survives the end of a connection that is in use, although the pool took its listener away', async () => {
    const pool = database.pool({ max: 1, application_name: 'in use' })
    const runner = runnerOf({ pool })
    const admin = database.pool()
    const running = runner.transaction(async (transaction) => {
      await transaction.query(one, [])
      await terminateBackend(admin, { applicationName: 'in use' })
      await eventually(async () => (await backendsNamed(admin, 'in use')).length === 0)
      return transaction.query(one, [])
    })
    await expect(running).rejects.toMatchObject({ code: 'CONNECTION' })
    expect(await runner.query(one, [])).toEqual([[1]])
    await pool.end()
  })

  it('notices an answer that never comes', async () => {
    await using proxy = await tcpProxy(database.url)
    const pool = database.pool({ max: 1, connectionString: proxy.url(database.url) })
    const runner = runnerOf({ pool })
    await runner.query(one, [])
    proxy.halfOpen()
    await expect(runner.query(one, [], { timeoutMs: 200 })).rejects.toMatchObject({ code: 'CONNECTION' })
    expect(await runner.query(one, [])).toEqual([[1]])
  })

  it('does not try the other connections one by one when one of them is silent', async () => {
    await using proxy = await tcpProxy(database.url)
    const pool = database.pool({ max: 4, connectionString: proxy.url(database.url), idleTimeoutMillis: 0 })
    const runner = runnerOf({ pool })
    await Promise.all(Array.from({ length: 4 }, () => runner.query(sleep, [0.1])))
    expect(pool.idleCount).toBe(4)
    proxy.halfOpen()
    await expect(runner.query(one, [], { timeoutMs: 200 })).rejects.toMatchObject({ code: 'CONNECTION' })
    expect(await runner.query(one, [], { timeoutMs: 20_000 })).toEqual([[1]])
    expect(pool.totalCount).toBe(1)
  })

  it('keeps connections that have answered since one was silent', async () => {
    const pool = database.pool({ max: 2 })
    const runner = runnerOf({ pool })
    const pid = { name: 'pid', text: 'SELECT pg_backend_pid()' }
    await Promise.all([runner.query(sleep, [0.1]), runner.query(sleep, [0.1])])
    const sent = Promise.withResolvers<void>()
    const silent = expect(runner.query(sleep, [30], { timeoutMs: 500, onSend: sent.resolve })).rejects.toMatchObject({
      code: 'CONNECTION',
    })
    await sent.promise
    const before = await runner.query(pid, [])
    await silent
    expect(await runner.query(pid, [])).toEqual(before)
  })

  it('puts the policy around statements, unless told otherwise', async () => {
    let executed = 0
    const policy = {
      execute: <T>(fn: (context: { signal?: AbortSignal }) => Promise<T>): Promise<T> => {
        executed += 1
        return fn({})
      },
    }
    const runner = runnerOf({ pool: database.pool(), policy })
    await runner.query(one, [])
    await runner.query(one, [], { bypassPolicy: true })
    await runner.transaction((transaction) => transaction.query(one, []))
    expect(executed).toBe(2)
  })
})

it('a statement that a policy gives up still ends in time, and its client with it', async () => {
  const pool = database.pool({ max: 1 })
  const sent = Promise.withResolvers<void>()
  const givenUp = sent.promise.then(() => Promise.reject(new Error('given up')))
  const impatient = {
    execute: <T>(fn: (context: { signal?: AbortSignal }) => Promise<T>): Promise<T> => {
      const run = fn({})
      run.catch(() => {})
      return Promise.race([run, givenUp])
    },
  }
  const runner = runnerOf({ pool, policy: impatient })
  await runner.query(one, [], { bypassPolicy: true })
  const running = runner.query(sleep, [60], { timeoutMs: 300, onSend: sent.resolve })
  await expect(running).rejects.toThrow('given up')
  expect(await runner.query(one, [], { bypassPolicy: true, timeoutMs: 20_000 })).toEqual([[1]])
})

describe('conflicts', () => {
  it('runs a transaction again after a serialization failure, within the deadline', async () => {
    const pool = database.pool()
    await pool.query('CREATE TABLE counted (n int); INSERT INTO counted VALUES (0)')
    const runner = runnerOf({ pool })
    const bump = { name: 'bump', text: 'UPDATE counted SET n = n + 1' }
    const strict = { name: 'strict', text: 'SET TRANSACTION ISOLATION LEVEL REPEATABLE READ' }
    let runs = 0
    await runner.transaction(async (transaction) => {
      runs += 1
      await transaction.query(strict, [])
      await transaction.query({ name: 'look', text: 'SELECT n FROM counted' }, [])
      if (runs < 3) await pool.query('UPDATE counted SET n = n + 1')
      await transaction.query(bump, [])
    })
    expect(runs).toBe(3)
    expect((await pool.query('SELECT n FROM counted')).rows).toEqual([{ n: 3 }])
  })

  it('gives the conflict to the caller when another attempt would not end in time', async () => {
    const runner = runnerOf({ pool: database.pool() })
    await runner.query(one, [])
    const again = `PERFORM pg_sleep(1.5); RAISE EXCEPTION 'again' USING ERRCODE = '40P01';`
    const fail = { name: 'conflict', text: `DO $$ BEGIN ${again} END $$` }
    await expect(runner.query(fail, [], { timeoutMs: 3_000 })).rejects.toMatchObject({
      code: 'DEADLOCK',
      retryable: true,
    })
  })

  it('rolls back when the body throws, and keeps its error', async () => {
    const pool = database.pool({ max: 1 })
    await pool.query('CREATE TABLE written (n int)')
    const runner = runnerOf({ pool })
    const mine = new Error('mine')
    const running = runner.transaction(async (transaction) => {
      await transaction.query({ name: 'write', text: 'INSERT INTO written VALUES (1)' }, [])
      throw mine
    })
    await expect(running).rejects.toBe(mine)
    expect((await pool.query('SELECT count(*)::int AS n FROM written')).rows).toEqual([{ n: 0 }])
  })
})

describe('a runner with a pool of its own', () => {
  it('opens it with the first statement, survives the loss of idle connections, and ends it', async () => {
    const runner = runnerOf({ connectionString: database.url })
    const admin = database.pool()
    expect(await backendsNamed(admin, applicationName)).toHaveLength(0)
    await runner.query(one, [])
    expect(await backendsNamed(admin, applicationName)).toHaveLength(1)
    await terminateBackend(admin, { applicationName })
    await eventually(async () => (await backendsNamed(admin, applicationName)).length === 0)
    expect(await eventually(() => runner.query(one, []))).toEqual([[1]])
    const last = runner.query(sleep, [0.2])
    await runner.close()
    expect(await last).toHaveLength(1)
    await eventually(async () => (await backendsNamed(admin, applicationName)).length === 0)
  })

  it.each(['half-open', 'deaf while it connects'] as const)('closes in time on a line that is %s', async (fault) => {
    await using proxy = await tcpProxy(database.url)
    const runner = runnerOf({ connectionString: proxy.url(database.url) })
    if (fault === 'half-open') {
      await runner.query(one, [])
      proxy.halfOpen()
    } else {
      proxy.blackHole()
      await expect(runner.query(one, [], { timeoutMs: 100 })).rejects.toMatchObject({ code: 'CONNECTION' })
    }
    const before = performance.now()
    await runner.close()
    expect(performance.now() - before).toBeLessThan(4_000)
  })

  it('wants a pool or a connection string', () => {
    expect(() => createRunner({ applicationName })).toThrow(/exactly one of pool and connectionString; got none/)
    expect(() => createRunner({ applicationName, pool: database.pool(), connectionString: 'x' })).toThrow(/got both/)
  })
})

describeWith('pgbouncer', 'behind a transaction pooler', () => {
  it('goes without prepared statements as soon as they fail there', async () => {
    await using pooler = await pgbouncer({ url: database.url, mode: 'transaction', poolSize: 2 })
    const pool = database.pool({ max: 6, connectionString: pooler.url(database.url) })
    const runner = runnerOf({ pool })
    const rounds = Array.from({ length: 60 }, (_, n) => async () => {
      if (n % 3 === 0) return (await runner.transaction((transaction) => transaction.query(echo, ['t', n])))[0]
      return (await runner.query(echo, ['x', n]))[0]
    })
    const answers = await Promise.all(rounds.map((round) => round()))
    expect(answers).toEqual(rounds.map((_, n) => [n % 3 === 0 ? 't' : 'x', n]))
    await pool.end()
  })
})
