/** Locks, an election and a feed, with every span and metric on the console. */

import { ConsoleMetricExporter, MeterProvider, PeriodicExportingMetricReader } from '@opentelemetry/sdk-metrics'
import { BasicTracerProvider, ConsoleSpanExporter, SimpleSpanProcessor } from '@opentelemetry/sdk-trace-base'
import { createLeaderInput } from '@x/leader-input'
import { migrate as migrateInput } from '@x/leader-input/migrations'
import { createLeaderElector, withLock } from '@x/lock-core'
import { createTableLocker } from '@x/lock-table'
import { migrate } from '@x/lock-table/migrations'
import { createDatabase, eventually, startPostgres } from '@x/testkit'
import { gauges } from './gauges.ts'
import { inputMetrics } from './input-metrics.ts'
import { inputSpans } from './input-spans.ts'
import { lockMetrics } from './lock-metrics.ts'
import { lockSpans } from './lock-spans.ts'

const tracers = new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(new ConsoleSpanExporter())] })
const meters = new MeterProvider({
  readers: [new PeriodicExportingMetricReader({ exporter: new ConsoleMetricExporter(), exportIntervalMillis: 10_000 })],
})
const tracer = tracers.getTracer('coordination')
const meter = meters.getMeter('coordination')
lockSpans(tracer)
inputSpans(tracer)
lockMetrics(meter)
inputMetrics(meter)

await using server = await startPostgres()
await using database = await createDatabase(server.url, { label: 'observability' })
const pool = database.pool()
await migrate(pool)
await migrateInput(pool)
await pool.query('CREATE TABLE orders (id int PRIMARY KEY)')

const locker = createTableLocker({ pool })
const elector = createLeaderElector({ locker, key: 'reports' })
const input = createLeaderInput<{ orders: { id: number } }>({ pool, locker, name: 'orders', tables: ['orders'] })
gauges(meter, { electors: { reports: elector }, inputs: [input] })

elector.start()
await Promise.all(Array.from({ length: 5 }, () => withLock(locker, 'report', () => undefined)))
await input.install()
let handled = 0
const running = input.run((events) => {
  handled += events.length
})
await pool.query('INSERT INTO orders SELECT generate_series(1, 3)')
await eventually(() => handled === 3)

await meters.forceFlush()
await input.close()
await running
await elector.close()
await locker.close()
await meters.shutdown()
await tracers.shutdown()
