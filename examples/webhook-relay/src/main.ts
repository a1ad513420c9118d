/**
 * The relay from end to end: a database, three replicas, an endpoint that fails every now and then, a leader that is
 * killed and one that is asked to stop. Exit code 0 only if every change of a sale arrived, under one key, in order.
 *
 * `npm run demo:webhooks -- [--seconds 15] [--url postgres://…]`
 */
import { setTimeout as delay } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { createDatabase, eventually, spawnNode, startPostgres, type TestProcess } from '@x/testkit'
import { z } from 'zod'
import { deploy } from './deploy.ts'
import { type Behaviour, startEndpoint } from './endpoint.ts'
import { report } from './report.ts'
import { createSeller } from './seller.ts'

const { values } = parseArgs({ options: { seconds: { type: 'string', default: '15' }, url: { type: 'string' } } })
const lengthMs = z.coerce.number().min(5).max(3_600).parse(values.seconds) * 1_000

const startedAt = performance.now()
const say = (line: string): void =>
  console.log(`${((performance.now() - startedAt) / 1_000).toFixed(1).padStart(5)} s  ${line}`)

await using resources = new AsyncDisposableStack()
const server = values.url === undefined ? resources.use(await startPostgres()) : null
const database = resources.use(await createDatabase(values.url ?? server?.url ?? '', { label: 'webhooks' }))
await deploy(database.pool())

/** One request in six does not go well, the first three times that its webhook is sent. */
const misfortunes: readonly Behaviour[] = [
  { kind: 'answer', status: 500 },
  { kind: 'hang' },
  { kind: 'cut' },
  { kind: 'accept-and-cut' },
  { kind: 'answer', status: 429, retryAfter: 1 },
]
const endpoint = resources.use(
  await startEndpoint((_, attempt) => {
    const misfortune = misfortunes[Math.floor(Math.random() * misfortunes.length)]
    return attempt <= 3 && Math.random() < 1 / 60 && misfortune !== undefined ? misfortune : { kind: 'accept' }
  }),
)
say(`the endpoint listens at ${endpoint.url}`)

const relays = new Map<string, TestProcess<never>>()
const start = async (name: string): Promise<void> => {
  const args = [
    '--url',
    database.url,
    '--endpoint',
    endpoint.url,
    '--name',
    name,
    '--timeout',
    '500',
    '--takeover',
    '1500',
  ]
  relays.set(name, await spawnNode(new URL('./replica.ts', import.meta.url), { messages: z.never(), args }))
}
resources.defer(async () => void (await Promise.all([...relays.values()].map((relay) => relay.kill()))))
for (const name of ['relay-1', 'relay-2', 'relay-3']) await start(name)

/** Ends the replica that posts, and waits for another one to do so. */
const endLeader = async (signal: 'SIGKILL' | 'SIGTERM'): Promise<void> => {
  const name = endpoint.lastRelay ?? ''
  say(`${signal} to ${name}, which leads`)
  const endedAt = performance.now()
  const exit = await relays.get(name)?.kill(signal)
  relays.delete(name)
  if (signal === 'SIGTERM') say(`${name} ended in good order, with exit code ${exit?.code}`)
  await eventually(() => endpoint.lastRelay !== name, { deadlineMs: 30_000, what: 'a successor' })
  say(`${endpoint.lastRelay} goes on ${((performance.now() - endedAt) / 1_000).toFixed(1)} s after the signal`)
}

const client = await database.client()
const seller = createSeller(client)
const until = performance.now() + lengthMs
const sell = async (): Promise<void> => {
  for (let round = 1; performance.now() < until; round += 1) {
    await seller.sell(2)
    await seller.correct(1 + Math.floor(Math.random() * 2 * round))
    if (round % 10 === 0) await seller.refund(round)
    await delay(20)
  }
}
const selling = sell()
await eventually(() => endpoint.taken.length > 10, { deadlineMs: 30_000, what: 'the first webhooks' })
say(`${endpoint.lastRelay} posts the first webhooks`)
await delay(lengthMs / 5)
await endLeader('SIGKILL')
await delay(lengthMs / 5)
await endLeader('SIGTERM')
await selling
say(`${seller.changes.length} changes of sales were committed; what is left is posted`)
const taken = (): number => new Set(endpoint.taken.map(({ key }) => key)).size
await eventually(() => taken() >= seller.changes.length, { deadlineMs: 60_000, what: 'everything to arrive' }).catch(
  (error: unknown) => say(String(error)),
)
for (const [name, relay] of relays) say(`${name} ended with exit code ${(await relay.kill('SIGTERM')).code}`)

const { changes, duplicates, violations } = report(seller.changes, endpoint.taken)
say(`${endpoint.requests} requests; ${changes} changes arrived, ${duplicates} of them again, under the same key`)
for (const violation of violations.slice(0, 20)) say(violation)
say(violations.length === 0 ? 'Nothing was lost, and nothing came out of order.' : 'The relay broke its promise.')
process.exitCode = violations.length === 0 ? 0 : 1
