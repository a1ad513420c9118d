import { tcpProxy } from '@x/testkit'
import { createTableLocker } from '../../src/index.ts'

/** A process that refreshes and releases its lock when the database is gone, and has nothing else to do. */
const [url = ''] = process.argv.slice(2)
const proxy = await tcpProxy(url)
const locker = createTableLocker({ connectionString: proxy.url(url) })
const [refreshed, released] = [await locker.acquire('refreshed', { ttlMs: 1_000 }), await locker.acquire('released')]
await proxy.close()
const codeOf = (error: unknown): string => (error instanceof Error && 'code' in error ? String(error.code) : 'none')
process.stdout.write(`refresh ${await refreshed.refresh().catch(codeOf)}\n`)
process.stdout.write(`release ${await released.release().catch(codeOf)}\n`)
