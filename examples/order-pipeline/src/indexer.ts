/** One replica of the second service: it keeps the index of orders. Its leader holds an advisory lock. */
import { createAdvisoryLocker } from '@x/lock-advisory'
import { Pool } from 'pg'
import { indexerSettings } from './messages.ts'
import { createOrderIndexInput, keepIndex } from './order-index.ts'
import { followParent } from './parent.ts'

using parent = followParent(indexerSettings)
const { name, url } = parent.settings

await using resources = new AsyncDisposableStack()
const pool = new Pool({ connectionString: url, max: 4, application_name: `order-pipeline/${name}` })
pool.on('error', () => {}) // an idle connection was lost; the pool opens another when it needs one
resources.defer(() => pool.end())
await using locker = createAdvisoryLocker({ connectionString: url, applicationName: `order-pipeline/${name}/lock` })
await using input = createOrderIndexInput(pool, locker)
await input.install()
await input.run(keepIndex(name), { signal: parent.stop })
