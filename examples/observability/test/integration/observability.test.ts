import { channel } from 'node:diagnostics_channel'
import type { Meter } from '@opentelemetry/api'
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
import { createMemoryLocker } from '@x/lock-core/memory'
import { createTableLocker } from '@x/lock-table'
import { migrate } from '@x/lock-table/migrations'
import { eventually } from '@x/testkit'
import { useDatabase } from '@x/testkit/vitest'
import { expect, it } from 'vitest'
import { gauges } from '../../src/gauges.ts'
import { inputMetrics } from '../../src/input-metrics.ts'
import { inputSpans } from '../../src/input-spans.ts'
import { lockMetrics } from '../../src/lock-metrics.ts'
import { lockSpans } from '../../src/lock-spans.ts'

const database = useDatabase({
  template: {
    name: 'observability',
    prepare: async (pool) => {
      for (const one of [migrate, migrateCluster, migrateInput]) await one(pool)
    },
  },
})

it('turns the channels of locks, and what can be asked, into the metrics and spans that docs/operations.md lists', async () => {
  await using telemetry = collector()
  const { spans, exporter, reader, tracer, meter, collected } = telemetry
  const ends = [lockSpans(tracer), lockMetrics(meter)]

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
})

it('turns the channels of inputs into the metrics that docs/operations.md lists, and each term into a span', async () => {
  await using telemetry = collector()
  const { spans, reader, tracer, meter, collected } = telemetry
  const ends = [inputSpans(tracer), inputMetrics(meter)]
  const pool = database.pool()
  await pool.query('CREATE TABLE sales (id int PRIMARY KEY)')
  const input = createLeaderInput<{ sales: { id: number } }>({
    pool,
    locker: createMemoryLocker(),
    name: 'sales',
    tables: ['sales'],
    maxAttempts: 1,
    onFailure: 'park',
  })
  await input.install()
  const running = input.run((events) => {
    if (events.some(({ id }) => id === '2')) throw new Error('not this one')
  })
  await pool.query('INSERT INTO sales VALUES (1)')
  await eventually(() => spansOf('input batch').length === 1)
  await pool.query('INSERT INTO sales VALUES (2)')
  // One that fails, and one that puts it aside.
  await eventually(() => spansOf('input batch').length === 3)
  await input.close()
  await running

  await reader.forceFlush()
  expect(collected('input.batches')).toEqual([
    [{ input: 'sales', outcome: 'committed' }, 2],
    [{ input: 'sales', outcome: 'handler-failed' }, 1],
  ])
  expect(collected('input.events')).toEqual([[{ input: 'sales' }, 1]])
  expect(collected('input.parked')).toEqual([[{ input: 'sales' }, 1]])
  expect(collected('input.terms')).toEqual([[{ input: 'sales' }, 1]])
  const [term] = spansOf('input term')
  expect(term).toMatchObject({
    attributes: { 'input.name': 'sales', 'input.epoch': '1' },
    events: [{ name: 'parked', attributes: { 'input.location': 'public.sales' } }],
  })
  expect(spansOf('input batch').map(({ attributes }) => attributes['input.outcome'])).toEqual([
    'committed',
    'handler-failed',
    'committed',
  ])
  for (const batch of spansOf('input batch')) {
    expect(batch.parentSpanContext?.spanId).toBe(term?.spanContext().spanId)
  }
  for (const end of ends) end()

  function spansOf(name: string) {
    return spans.getFinishedSpans().filter((span) => span.name === name)
  }
})

it('counts halts and gaps, and marks them on the term', () => {
  const { spans, tracer, meter } = collector()
  const counted: string[] = []
  const counting = { ...meter, createCounter: (name: string) => ({ add: () => void counted.push(name) }) }
  const ends = [inputSpans(tracer), inputMetrics(counting as unknown as Meter)]
  const term = { input: 'sales', epoch: 7n }
  channel('coordination:input.leading').publish(term)
  channel('coordination:input.gap').publish({ input: 'sales', fromSeq: 1n, toSeq: 9n })
  channel('coordination:input.halted').publish({ ...term, location: 'public.sales', seq: 10n, idempotencyKey: 'k' })
  channel('coordination:input.stepped-down').publish({ ...term, reason: 'lost' })
  expect(counted).toEqual(['terms', 'gaps', 'halts'].map((name) => `coordination.input.${name}`))
  const [span] = spans.getFinishedSpans()
  expect(span?.events.map(({ name }) => name)).toEqual(['gap', 'halted'])
  expect(span?.attributes['input.ended']).toBe('lost')
  for (const end of ends) end()
})

/** Spans and metrics in memory, and the values of a metric by its attributes. */
function collector() {
  const spans = new InMemorySpanExporter()
  const tracers = new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(spans)] })
  const exporter = new InMemoryMetricExporter(AggregationTemporality.CUMULATIVE)
  const reader = new PeriodicExportingMetricReader({ exporter, exportIntervalMillis: 600_000 })
  const meters = new MeterProvider({ readers: [reader] })
  return {
    spans,
    exporter,
    reader,
    tracer: tracers.getTracer('coordination'),
    meter: meters.getMeter('coordination'),
    collected: (name: string) =>
      exporter
        .getMetrics()
        .flatMap((resource) => resource.scopeMetrics)
        .flatMap((scope) => scope.metrics)
        .filter(({ descriptor }) => descriptor.name === `coordination.${name}`)
        .flatMap(({ dataPoints }) => dataPoints.map(({ attributes, value }) => [attributes, value] as const)),
    async [Symbol.asyncDispose]() {
      await meters.shutdown()
      await tracers.shutdown()
    },
  }
}
