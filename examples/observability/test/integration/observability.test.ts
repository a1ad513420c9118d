import {
  AggregationTemporality,
  InMemoryMetricExporter,
  MeterProvider,
  PeriodicExportingMetricReader,
} from '@opentelemetry/sdk-metrics'
import { BasicTracerProvider, InMemorySpanExporter, SimpleSpanProcessor } from '@opentelemetry/sdk-trace-base'
import { createClusterDiscovery } from '@x/cluster-discovery'
import { migrate as migrateCluster } from '@x/cluster-discovery/migrations'
import { createLeaderInput } from '@x/leader-input'
import { migrate as migrateInput } from '@x/leader-input/migrations'
import { createLeaderElector } from '@x/lock-core'
import { createTableLocker } from '@x/lock-table'
import { migrate } from '@x/lock-table/migrations'
import { eventually } from '@x/testkit'
import { useDatabase } from '@x/testkit/vitest'
import { expect, it } from 'vitest'
import { gauges } from '../../src/gauges.ts'
import { lockMetrics } from '../../src/metrics.ts'
import { lockSpans } from '../../src/spans.ts'

const database = useDatabase({
  template: {
    name: 'observability',
    prepare: async (pool) => {
      for (const one of [migrate, migrateCluster, migrateInput]) await one(pool)
    },
  },
})

it('turns the channels into the metrics and spans that docs/operations.md lists', async () => {
  const spans = new InMemorySpanExporter()
  const tracers = new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(spans)] })
  const exporter = new InMemoryMetricExporter(AggregationTemporality.CUMULATIVE)
  const reader = new PeriodicExportingMetricReader({ exporter, exportIntervalMillis: 600_000 })
  const meters = new MeterProvider({ readers: [reader] })
  const meter = meters.getMeter('coordination')
  const ends = [lockSpans(tracers.getTracer('coordination')), lockMetrics(meter)]

  const locker = createTableLocker({ pool: database.pool(), wakeUps: 'poll' })
  const elector = createLeaderElector({ locker, key: 'leader' })
  const cluster = createClusterDiscovery({
    pool: database.pool(),
    cluster: 'shop',
    node: { name: 'one' },
    listen: false,
  })
  await cluster.join()
  await database.pool().query('CREATE TABLE orders (id int PRIMARY KEY)')
  const input = createLeaderInput<{ orders: { id: number } }>({
    pool: database.pool(),
    locker,
    name: 'orders',
    tables: ['orders'],
  })
  await input.install()
  await database.pool().query('INSERT INTO orders SELECT generate_series(1, 3)')
  gauges(meter, { electors: { reports: elector }, clusters: { shop: cluster }, inputs: [input] })
  elector.start()
  await eventually(() => elector.isLeader())
  const lock = await locker.acquire('report')
  await lock.refresh()
  expect(await locker.tryAcquire('report')).toBe(null)
  await lock.release()
  await locker.acquire('kept')

  await reader.forceFlush()
  const collected = (name: string) =>
    exporter
      .getMetrics()
      .flatMap((resource) => resource.scopeMetrics)
      .flatMap((scope) => scope.metrics)
      .filter(({ descriptor }) => descriptor.name === `coordination.${name}`)
      .flatMap(({ dataPoints }) => dataPoints.map(({ attributes, value }) => [attributes, value] as const))
  const exclusive = { mode: 'exclusive' }
  expect(collected('lock.acquires')).toEqual([
    [{ outcome: 'acquired', ...exclusive }, 3],
    [{ outcome: 'contended', ...exclusive }, 1],
  ])
  expect(collected('lock.releases')).toEqual([[exclusive, 1]])
  expect(collected('lock.refreshes')).toEqual([[exclusive, 1]])
  expect(collected('lock.held')).toEqual([[exclusive, 2]])
  expect(collected('lock.wait')[0]?.[1]).toMatchObject({ count: 3 })
  expect(collected('lock.hold')[0]?.[1]).toMatchObject({ count: 1 })
  expect(collected('leader')).toEqual([
    [{ elector: 'reports' }, 1],
    [{ elector: 'orders' }, 0],
  ])
  expect(collected('cluster.nodes')).toEqual([[{ cluster: 'shop' }, 1]])
  expect(collected('cluster.view_age')).toEqual([[{ cluster: 'shop' }, expect.any(Number)]])
  expect(collected('input.events_behind')).toEqual([[{ input: 'orders' }, 3]])
  expect(collected('input.lag')).toEqual([[{ input: 'orders' }, expect.any(Number)]])
  expect(collected('input.parked_keys')).toEqual([[{ input: 'orders' }, 0]])

  const [acquired] = spans.getFinishedSpans().filter(({ attributes }) => attributes['lock.key'] === 'report')
  expect(acquired).toMatchObject({
    name: 'lock acquire',
    attributes: { 'lock.outcome': 'acquired', 'lock.fencing_token': String(lock.fencingToken) },
  })
  exporter.reset()
  await elector.close()
  await locker.close()
  await reader.forceFlush()
  expect(collected('lock.lost').map(([attributes]) => attributes)).toEqual([{ reason: 'closed', ...exclusive }])
  expect(collected('lock.held')).toEqual([[exclusive, 0]])
  expect(spans.getFinishedSpans().filter(({ name }) => name === 'lock lost')).toHaveLength(1)
  for (const end of ends) end()
  await cluster.close()
  await input.close()
  await meters.shutdown()
  await tracers.shutdown()
})
