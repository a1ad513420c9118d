/** One replica of the relay, a process of its own: run as many as you like, one of them leads. */
import { createTableLocker } from '@x/lock-table'
import { Pool } from 'pg'
import { deploy } from './deploy.ts'
import { parseOptions, UsageError, usage } from './options.ts'
import { relaySales } from './relay.ts'
import { createWebhookInput } from './webhook-input.ts'

const readOptions = () => {
  try {
    return parseOptions(process.argv.slice(2), process.env)
  } catch (error) {
    if (!(error instanceof UsageError)) throw error
    console.error(`${error.message}\n\n${usage}`)
    process.exit(2)
  }
}
const options = readOptions()
if (options === null) {
  console.log(usage)
  process.exit(0)
}
const { endpoint, url, name, timeoutMs, takeoverMs } = options
const log = (line: string): void => console.log(`${new Date().toISOString()} ${name} ${line}`)

const stop = new AbortController()
for (const signal of ['SIGTERM', 'SIGINT'] as const) {
  process.on(signal, () => {
    if (!stop.signal.aborted) log(`${signal}: finishing what is under way`)
    stop.abort()
  })
}

await using resources = new AsyncDisposableStack()
const pool = new Pool({ connectionString: url, max: 5, application_name: `webhook-relay/${name}`.slice(0, 63) })
pool.on('error', () => {}) // an idle connection was lost; the pool opens another when it needs one
resources.defer(() => pool.end())
await deploy(pool)

const locker = resources.use(createTableLocker({ pool, ttlMs: takeoverMs, acquirer: { name } }))
const input = resources.use(createWebhookInput({ pool, locker, takeoverMs, log }))
log(`relays sales to ${new URL(endpoint).origin}`)
await relaySales({ input, pool, endpoint, name, timeoutMs, log }, stop.signal)
log('stops')
// What was opened above is closed in reverse order: the lease is released, so that a successor need not wait for its end.
