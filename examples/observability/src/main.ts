/** Locks and an election on a database, with every span and metric on the console: `node examples/observability/src/main.ts`. */

import { ConsoleMetricExporter, MeterProvider, PeriodicExportingMetricReader } from '@opentelemetry/sdk-metrics'
import { BasicTracerProvider, ConsoleSpanExporter, SimpleSpanProcessor } from '@opentelemetry/sdk-trace-base'
import { createLeaderElector, withLock } from '@x/lock-core'
import { createTableLocker } from '@x/lock-table'
import { migrate } from '@x/lock-table/migrations'
import { startPostgres } from '@x/testkit'
import pg from 'pg'
import { gauges } from './gauges.ts'
import { lockMetrics } from './metrics.ts'
import { lockSpans } from './spans.ts'

const tracers = new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(new ConsoleSpanExporter())] })
const meters = new MeterProvider({
  readers: [new PeriodicExportingMetricReader({ exporter: new ConsoleMetricExporter(), exportIntervalMillis: 10_000 })],
})
const meter = meters.getMeter('coordination')
lockSpans(tracers.getTracer('coordination'))
lockMetrics(meter)

await using server = await startPostgres()
const pool = new pg.Pool({ connectionString: server.url })
await migrate(pool)
const locker = createTableLocker({ pool })
const elector = createLeaderElector({ locker, key: 'reports' })
gauges(meter, { electors: { reports: elector } })
elector.start()
await Promise.all(Array.from({ length: 5 }, () => withLock(locker, 'report', () => undefined)))
await elector.close()
await locker.close()
await meters.shutdown()
await tracers.shutdown()
await pool.end()
