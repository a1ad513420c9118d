import type { ChangeEvent } from '@x/leader-input'
import type { Shop } from './shop.ts'

/** One change of a sale on its way to the endpoint. */
export interface Webhook {
  readonly idempotencyKey: string
  readonly body: string
}

/** What came of one attempt. */
export type Answer =
  | { readonly kind: 'accepted' }
  /** The endpoint will not take it, whenever it is asked. */
  | { readonly kind: 'refused'; readonly status: number }
  | { readonly kind: 'again'; readonly reason: string; readonly retryAfter: string | null }

export const webhookOf = ({ operation, id, before, after, at, idempotencyKey }: ChangeEvent<Shop>): Webhook => ({
  idempotencyKey,
  body: JSON.stringify({ operation, id, before, after, at }),
})

/** Client errors that say nothing about the request itself: a timeout, too early, too many. */
const passing: ReadonlySet<number> = new Set([408, 425, 429])

/**
 * Posts once. An answer that does not come in time counts as a failure although the endpoint may have taken the webhook:
 * this is where duplicates come from, and what the idempotency key is for.
 * @param epoch grows with each leader: an endpoint that keeps the highest one can refuse a leader that was deposed
 */
export const post = async (
  endpoint: string,
  webhook: Webhook,
  { relay, epoch, timeoutMs }: { relay: string; epoch: bigint; timeoutMs: number },
): Promise<Answer> => {
  try {
    const response = await fetch(endpoint, {
      method: 'POST',
      redirect: 'manual',
      headers: {
        'Content-Type': 'application/json',
        'Idempotency-Key': webhook.idempotencyKey,
        'Relay-Epoch': String(epoch),
        'User-Agent': `webhook-relay/${relay}`,
      },
      body: webhook.body,
      signal: AbortSignal.timeout(timeoutMs),
    })
    await response.body?.cancel() // the status says it all; an answer that is not read would keep its socket
    const { status } = response
    if (response.ok) return { kind: 'accepted' }
    if (status >= 400 && status < 500 && !passing.has(status)) return { kind: 'refused', status }
    return { kind: 'again', reason: `status ${status}`, retryAfter: response.headers.get('Retry-After') }
  } catch (error) {
    // fetch() says "fetch failed" and keeps what happened in the cause.
    const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error
    return { kind: 'again', reason: cause instanceof Error ? cause.message : String(cause), retryAfter: null }
  }
}
