import { setTimeout as delay } from 'node:timers/promises'
import type { LeaderInput } from '@x/leader-input'
import type { Pool } from 'pg'
import { backOffMs } from './back-off.ts'
import type { Shop } from './shop.ts'
import { post, type Webhook, webhookOf } from './webhook.ts'

export interface Relay {
  readonly input: LeaderInput<Shop>
  readonly pool: Pool
  readonly endpoint: string
  readonly name: string
  readonly timeoutMs: number
  log(line: string): void
}

/** How the sending of one webhook ended. */
type Sent = 'done' | 'deposed' | 'stopped'

interface Failure {
  readonly reason: string
  readonly retryAfter: string | null
}

/**
 * Writes down what was refused for good; null when that is done. It is acknowledged afterwards: a crash in between asks
 * the endpoint again, and writes it down under the same key.
 */
const putAside = async ({ pool, log }: Relay, webhook: Webhook, status: number): Promise<Failure | null> => {
  const { idempotencyKey, body } = webhook
  try {
    await pool.query(
      'INSERT INTO refused_webhooks (idempotency_key, status, body) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING',
      [idempotencyKey, status, body],
    )
    log(`${idempotencyKey} refused for good with status ${status}; put aside`)
    return null
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error)
    return { reason: `status ${status}, and it could not be put aside: ${reason}`, retryAfter: null }
  }
}

/** Posts until the endpoint has taken the webhook or refused it for good, or this replica has no say in it any more. */
const send = async (relay: Relay, webhook: Webhook, stop: AbortSignal): Promise<Sent> => {
  const { input, endpoint, log } = relay
  const { epoch } = input.health()
  for (let failures = 1; ; failures += 1) {
    // Looked at before each attempt: a successor may have delivered this one and later ones of the same sale.
    if (epoch === null || input.health().epoch !== epoch) {
      log(`${webhook.idempotencyKey} is left to the next leader`)
      return 'deposed'
    }
    const answer = await post(endpoint, webhook, { relay: relay.name, epoch, timeoutMs: relay.timeoutMs })
    if (answer.kind === 'accepted') return 'done'
    const failure = answer.kind === 'refused' ? await putAside(relay, webhook, answer.status) : answer
    if (failure === null) return 'done'
    if (stop.aborted) return 'stopped'
    const waitMs = backOffMs(failures, Math.random(), failure.retryAfter)
    log(`${webhook.idempotencyKey} not taken (${failure.reason}); attempt ${failures + 1} in ${Math.round(waitMs)} ms`)
    await delay(waitMs, undefined, { signal: stop }).catch(() => {})
    if (stop.aborted) return 'stopped'
  }
}

/**
 * Stands by, or leads and posts every change of a sale, one after the other, until `stop` aborts. A webhook that is under
 * way then is waited for and acknowledged, so that the next leader does not send it again.
 */
export const relaySales = async (relay: Relay, stop: AbortSignal): Promise<void> => {
  const ending = new AbortController()
  let current: Promise<unknown> = Promise.resolve()
  // After the turn of the event loop in which the loop below has asked for the next event, which acknowledges the last.
  const end = (): void => void current.then(() => setImmediate(() => ending.abort()))
  stop.addEventListener('abort', end, { once: true })
  if (stop.aborted) end()
  for await (const event of relay.input.events({ signal: ending.signal })) {
    if (stop.aborted) break
    const sending = send(relay, webhookOf(event), stop)
    current = sending.catch(() => {})
    // What is not done is not acknowledged: the event was withdrawn when the leadership ended, and `break` gives it back.
    if ((await sending) === 'stopped') break
  }
}
