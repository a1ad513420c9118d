import { eventually, spawnNode, type TestProcess } from '@x/testkit'
import { useDatabase } from '@x/testkit/vitest'
import type { Client } from 'pg'
import { beforeEach, expect, it } from 'vitest'
import { z } from 'zod'
import { deploy } from '../../src/deploy.ts'
import { type Behaviour, type Endpoint, startEndpoint } from '../../src/endpoint.ts'
import { report } from '../../src/report.ts'
import { createSeller } from '../../src/seller.ts'

/** A takeover and what was piled up, on a busy machine. */
const deadlineMs = 40_000
const database = useDatabase({ template: { name: 'webhook-relay', prepare: deploy } })
let client: Client
let seller: ReturnType<typeof createSeller>
beforeEach(async () => {
  // Each test begins with an input that has handled nothing, and ends with no replica.
  client ??= await database.client()
  await client.query('TRUNCATE sales, refused_webhooks RESTART IDENTITY')
  await client.query(`DELETE FROM coordination.cursors`)
  await deploy(database.pool({ max: 1 }))
  seller = createSeller(client)
})

/** A leader that nobody kills keeps its lock however busy the machine is; one that is killed is followed in a second. */
const startReplica = (
  endpoint: Endpoint,
  name: string,
  { timeoutMs = 60_000, takeoverMs = 20_000 } = {},
): Promise<TestProcess<never>> =>
  spawnNode(new URL('../../src/replica.ts', import.meta.url), {
    messages: z.never(),
    args: [
      '--url',
      database.url,
      '--endpoint',
      endpoint.url,
      '--name',
      name,
      '--timeout',
      `${timeoutMs}`,
      '--takeover',
      `${takeoverMs}`,
    ],
  })
const leads = (replica: TestProcess<never>): Promise<true> =>
  eventually(() => replica.output().includes(' leading '), { deadlineMs, what: 'a replica to lead' })
/** Every change has been taken at least once. */
const complete = (endpoint: Endpoint): Promise<true> =>
  eventually(() => new Set(endpoint.taken.map(({ key }) => key)).size >= seller.changes.length, {
    ...{ deadlineMs, what: 'every change to arrive' },
  })
const endInGoodOrder = async (replica: TestProcess<never>): Promise<void> => {
  expect(await replica.kill('SIGTERM'), replica.output()).toEqual({ code: 0, signal: null })
}

it('delivers everything to an endpoint that fails in every way, in order, and again only under the same key', async () => {
  const misfortunes: readonly Behaviour[] = [
    { kind: 'answer', status: 500 },
    { kind: 'hang' },
    { kind: 'cut' },
    { kind: 'accept-and-cut' },
    { kind: 'answer', status: 307 },
  ]
  let webhooks = 0
  await using endpoint = await startEndpoint((_, attempt) => {
    // Every third webhook has bad luck at first, each time of another kind.
    if (attempt === 1) webhooks += 1
    const misfortune =
      attempt === 1 && webhooks % 3 === 0 ? misfortunes[(webhooks / 3) % misfortunes.length] : undefined
    return misfortune ?? { kind: 'accept' }
  })
  await using replica = await startReplica(endpoint, 'only', { timeoutMs: 1_000 })
  for (let sale = 1; sale <= 10; sale += 1) {
    await seller.sell()
    await seller.correct(sale)
  }
  await seller.refund(3)
  await seller.refund(7)
  await complete(endpoint)
  await endInGoodOrder(replica)
  const { changes, duplicates, violations } = report(seller.changes, endpoint.taken)
  expect(violations).toEqual([])
  expect(changes).toBe(22)
  expect(duplicates).toBeGreaterThanOrEqual(1) // the one that was accepted and whose answer was cut
  expect(endpoint.requests).toBeGreaterThanOrEqual(22 + 7)
})

it('goes on with another replica after kill -9 of the leader, in a higher epoch', async () => {
  let hung = ''
  await using endpoint = await startEndpoint((key, attempt) => {
    if (hung === '' && endpoint.taken.length === 4) hung = key
    return key === hung && attempt === 1 ? { kind: 'hang' } : { kind: 'accept' }
  })
  await using first = await startReplica(endpoint, 'first', { takeoverMs: 1_000 })
  await leads(first)
  await using second = await startReplica(endpoint, 'second', { takeoverMs: 1_000 })
  await seller.sell(5)
  for (let sale = 1; sale <= 5; sale += 1) await seller.correct(sale)
  // Killed with a webhook on its way, of which nobody knows what became.
  await eventually(() => hung !== '', { deadlineMs, what: 'the webhook to be under way' })
  await first.kill()
  await complete(endpoint)
  await endInGoodOrder(second)
  expect(report(seller.changes, endpoint.taken).violations).toEqual([])
  const epochs = new Map(endpoint.taken.map(({ relay, epoch }) => [relay, epoch]))
  expect([...epochs.keys()]).toEqual(['first', 'second'])
  expect(epochs.get('second')).toBeGreaterThan(epochs.get('first') ?? 0n)
})

it('does not post again from a leader that stood still until it was deposed', async () => {
  const attempts: string[] = []
  let cut = (): void => {}
  const cutNow = new Promise<Behaviour>((resolve) => {
    cut = () => resolve({ kind: 'cut' })
  })
  await using endpoint = await startEndpoint(() => {
    attempts.push(endpoint.lastRelay ?? '')
    return endpoint.lastRelay === 'zombie' ? cutNow : { kind: 'accept' }
  })
  await using zombie = await startReplica(endpoint, 'zombie', { takeoverMs: 1_000 })
  await leads(zombie)
  await using successor = await startReplica(endpoint, 'successor', { takeoverMs: 1_000 })
  await seller.sell(3)
  await eventually(() => attempts.length === 1, { deadlineMs, what: 'the first attempt' })
  zombie.pause()
  await complete(endpoint)
  // It wakes up to a failed request, which it would have to send again if it still led.
  cut()
  zombie.resume()
  await eventually(() => zombie.output().includes('is left to the next leader'), { deadlineMs })
  await endInGoodOrder(zombie)
  await endInGoodOrder(successor)
  expect(attempts).toEqual(['zombie', 'successor', 'successor', 'successor'])
})

it('finishes what is under way at SIGTERM, acknowledges it, and leaves the rest to the next', async () => {
  let answer = (): void => {}
  const asked = new Promise<void>((resolve) => {
    answer = resolve
  })
  let waiting = false
  await using endpoint = await startEndpoint(async () => {
    if (!waiting) {
      waiting = true
      await asked
    }
    return { kind: 'accept' }
  })
  await using first = await startReplica(endpoint, 'first')
  await seller.sell(3)
  await eventually(() => waiting, { deadlineMs, what: 'the first webhook to be under way' })
  const ended = first.kill('SIGTERM')
  await eventually(() => first.output().includes('finishing what is under way'), { deadlineMs })
  answer()
  expect(await ended, first.output()).toEqual({ code: 0, signal: null })
  expect(endpoint.taken).toHaveLength(1)
  await using second = await startReplica(endpoint, 'second')
  await complete(endpoint)
  await endInGoodOrder(second)
  // None of them twice: what the first had sent was acknowledged.
  expect(endpoint.taken.map(({ sale, relay }) => `${sale} by ${relay}`)).toEqual([
    '1 by first',
    '2 by second',
    '3 by second',
  ])
})

it('does not wait out its back-off at SIGTERM, and acknowledges nothing that was not taken', async () => {
  let isUp = false
  await using endpoint = await startEndpoint(() =>
    isUp ? { kind: 'accept' } : { kind: 'answer', status: 503, retryAfter: 30 },
  )
  await using first = await startReplica(endpoint, 'first')
  await seller.sell(1)
  await eventually(() => first.output().includes('attempt 2 in 30000 ms'), { deadlineMs, what: 'the first refusal' })
  const signalledAt = performance.now()
  await endInGoodOrder(first)
  expect(performance.now() - signalledAt).toBeLessThan(20_000)
  isUp = true
  await using second = await startReplica(endpoint, 'second')
  await complete(endpoint)
  await endInGoodOrder(second)
  expect(endpoint.requests).toBe(2)
})

it('puts aside what the endpoint refuses for good, and goes on', async () => {
  let keyOfFirst = ''
  await using endpoint = await startEndpoint((key) => {
    keyOfFirst ||= key
    return key === keyOfFirst ? { kind: 'answer', status: 422 } : { kind: 'accept' }
  })
  await using replica = await startReplica(endpoint, 'only')
  await seller.sell(2)
  await eventually(() => endpoint.taken.length > 0, { deadlineMs, what: 'the second sale' })
  await endInGoodOrder(replica)
  expect(endpoint.taken[0]?.sale).toBe('2')
  const { rows } = await client.query(`SELECT idempotency_key, status, body->>'id' AS sale FROM refused_webhooks`)
  expect(rows).toEqual([{ idempotency_key: keyOfFirst, status: 422, sale: '1' }])
})

it('stands by and stops in good order without an endpoint to talk to; a bad command line says what it wants', async () => {
  await using endpoint = await startEndpoint(() => ({ kind: 'accept' }))
  await using leader = await startReplica(endpoint, 'leader')
  await leads(leader)
  await using standby = await startReplica(endpoint, 'standby')
  await eventually(() => standby.output().includes('relays sales to'), { deadlineMs })
  await endInGoodOrder(standby)
  await endInGoodOrder(leader)
  await using wrong = await spawnNode(new URL('../../src/replica.ts', import.meta.url), { messages: z.never() })
  expect(await wrong.exited).toEqual({ code: 2, signal: null })
  expect(wrong.output()).toMatch(/--endpoint takes the URL to post to.*\n\nUsage: npm run relay/)
})
