import { eventually } from '@x/testkit'
import { useDatabase } from '@x/testkit/vitest'
import type { Pool } from 'pg'
import { beforeAll, describe, expect, it } from 'vitest'
import { clusterTables } from '../database.ts'
import { ObservedCluster, pace, ttlBoundMs } from './observed-cluster.ts'

const database = useDatabase({ template: clusterTables })
let pool: Pool
beforeAll(() => {
  pool = database.pool({ max: 10 })
})
const newCluster = (): ObservedCluster => new ObservedCluster(database.url, pool)
let views = 0
/** As the child sees it now; each question has its number, because earlier answers are remembered. */
const viewOf = async (child: Awaited<ReturnType<ObservedCluster['spawn']>>) => {
  views += 1
  const number = views
  child.send({ do: 'view', number })
  const view = await child.message((message) => message.kind === 'view' && message.number === number)
  if (view.kind !== 'view') throw new Error('expected a view')
  return view
}

/** How long it took until everybody knew of a death, and as what. */
interface Noticed {
  readonly tookMs: number
  readonly downs: readonly string[]
}

/** The quickest of up to three: a pause of the machine spoils one of them. */
const quickest = async (withinMs: number, attempt: () => Promise<Noticed>): Promise<Noticed> => {
  let best = await attempt()
  for (let more = 0; more < 2 && best.tookMs >= withinMs; more += 1) {
    const next = await attempt()
    if (next.tookMs < best.tookMs) best = next
  }
  return best
}

describe('a process killed with SIGKILL', () => {
  it('is down for all within two seconds, by its marker', async () => {
    const { tookMs, downs } = await quickest(2_000, async () => {
      await using cluster = newCluster()
      await cluster.join('a')
      await cluster.join('b')
      const victim = await cluster.spawn('victim')
      await cluster.agree(['a', 'b', 'victim'])
      await cluster.settle()
      cluster.disturb('victim')
      await victim.kill()
      const killedAt = performance.now()
      await cluster.agree(['a', 'b'])
      const noticed = { tookMs: performance.now() - killedAt, downs: cluster.downs() }
      await cluster.check()
      return noticed
    })
    expect(downs).toEqual(['victim crash'])
    expect(tookMs).toBeLessThan(2_000)
  })

  it('is noticed as fast when it was the sweeper, and somebody else sweeps', async () => {
    const { tookMs, downs } = await quickest(2_500, async () => {
      await using cluster = newCluster()
      const sweeper = await cluster.spawn('sweeper')
      await eventually(async () => (await sweeperOf(cluster.name)) === 'sweeper')
      await cluster.join('a')
      await cluster.join('b')
      await cluster.settle()
      cluster.disturb('sweeper')
      await sweeper.kill()
      const killedAt = performance.now()
      await cluster.agree(['a', 'b'])
      const noticed = { tookMs: performance.now() - killedAt, downs: cluster.downs() }
      expect(['a', 'b']).toContain(await sweeperOf(cluster.name))
      await cluster.check()
      return noticed
    })
    expect(downs).toEqual(['sweeper crash'])
    expect(tookMs).toBeLessThan(2_500)
  })
})

describe('a stopped process', () => {
  it('stays a member when it goes on before its ttl', async () => {
    await using cluster = newCluster()
    await cluster.join('a')
    const itsTtlMs = 2 * pace.ttlMs
    const sleeper = await cluster.spawn('sleeper', { ttlMs: itsTtlMs })
    await cluster.agree(['a', 'sleeper'])
    await cluster.settle()
    const stoppedAt = performance.now()
    const over = cluster.disturb('sleeper')
    sleeper.pause()
    await eventually(() => performance.now() - stoppedAt > itsTtlMs * 0.5)
    sleeper.resume()
    over()
    expect(await viewOf(sleeper)).toMatchObject({ self: 'up' })
    await cluster.settle()
    expect(cluster.downs()).toEqual([])
    await cluster.check()
  })

  it('is let go after its ttl, knows it by itself when it wakes up, and joins again', async () => {
    await using cluster = newCluster()
    const a = await cluster.join('a')
    const sleeper = await cluster.spawn('sleeper')
    await cluster.agree(['a', 'sleeper'])
    await cluster.settle()
    const over = cluster.disturb('sleeper')
    sleeper.pause()
    const stoppedAt = performance.now()
    await cluster.agree(['a'], ttlBoundMs)
    expect(performance.now() - stoppedAt).toBeGreaterThan(pace.ttlMs - pace.heartbeatMs * 1.2)
    expect(cluster.downs()).toEqual(['sleeper ttl'])
    sleeper.resume()
    over()
    await sleeper.message(
      (message) => message.kind === 'other' && message.type === 'self-down' && message.cause === 'evicted',
    )
    await cluster.agree(['a', 'sleeper'])
    const again = a.nodes().find((node) => node.id === 'sleeper')
    expect(again?.incarnation).toBeGreaterThan(2n)
    await eventually(async () => (await viewOf(sleeper)).self === 'up')
    await cluster.check()
  })
})

describe('two processes with one id', () => {
  it('leave the newer one a member; the older one hears of it, and does not come back', async () => {
    await using cluster = newCluster()
    const a = await cluster.join('a')
    const older = await cluster.spawn('twin')
    await cluster.agree(['a', 'twin'])
    cluster.disturb('twin')
    const newer = await cluster.spawn('twin')
    const joined = await newer.message((message) => message.kind === 'joined')
    await older.message(
      (message) => message.kind === 'other' && message.type === 'self-down' && message.cause === 'replaced',
    )
    // Long enough for either of them to have evicted the other, if it tried.
    await cluster.settle()
    expect(await viewOf(newer)).toMatchObject({ self: 'up' })
    expect((await viewOf(older)).self).not.toBe('up')
    const member = a.nodes().find((node) => node.id === 'twin')
    expect(joined).toMatchObject({ incarnation: `${member?.incarnation}` })
    await cluster.check()
  })
})

describe('a process whose clock is an hour off', () => {
  it('is a member like any other, whichever way', async () => {
    await using cluster = newCluster()
    await cluster.join('a')
    const [early, late] = await Promise.all([
      cluster.spawn('early', { clockShiftMs: -3_600_000 }),
      cluster.spawn('late', { clockShiftMs: 3_600_000 }),
    ])
    await cluster.agree(['a', 'early', 'late'])
    await cluster.settle()
    for (const shifted of [early, late]) {
      shifted.send({ do: 'close' })
      await shifted.message((message) => message.kind === 'closed')
    }
    await cluster.agree(['a'])
    expect(cluster.downs()).toEqual([])
    await cluster.check()
  })
})

const sweeperOf = async (cluster: string): Promise<string | undefined> => {
  const { rows } = await pool.query<{ id: string }>('SELECT id FROM coordination.cluster_sweepers WHERE cluster = $1', [
    cluster,
  ])
  return rows[0]?.id
}
