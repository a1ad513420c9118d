/**
 * The other end, for the demo and the tests: an HTTP server that accepts webhooks, or does to them what servers and
 * networks do. It deduplicates by the idempotency key, as the endpoint of a customer would.
 */
import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'
import { z } from 'zod'

/** What becomes of one request. */
export type Behaviour =
  | { readonly kind: 'accept' }
  /** A status and nothing else. */
  | { readonly kind: 'answer'; readonly status: number; readonly retryAfter?: number }
  /** Never answered; the connection stays open. */
  | { readonly kind: 'hang' }
  /** The connection is gone before the webhook was looked at. */
  | { readonly kind: 'cut' }
  /** Accepted, and the connection is gone before the answer: the sender cannot know. */
  | { readonly kind: 'accept-and-cut' }

const webhook = z.object({
  operation: z.enum(['create', 'update', 'delete']),
  id: z.string(),
  before: z.object({ revision: z.number() }).nullable(),
  after: z.object({ revision: z.number() }).nullable(),
})

/** One webhook that the endpoint has taken, as often as it came. */
export interface Taken {
  readonly key: string
  readonly sale: string
  /** Of a delete, one more than that of the row it removed. */
  readonly revision: number
  readonly relay: string
  readonly epoch: bigint
}

export interface Endpoint extends AsyncDisposable {
  readonly url: string
  /** In the order of taking, duplicates included. */
  readonly taken: readonly Taken[]
  /** Requests that arrived, whatever became of them. */
  readonly requests: number
  /** Who posted last. */
  readonly lastRelay: string | null
}

const header = ({ headers }: IncomingMessage, name: string): string => z.string().parse(headers[name])

/** @param behave decides for each request, by its idempotency key and the number of the attempt, from 1 */
export const startEndpoint = async (
  behave: (key: string, attempt: number) => Behaviour | Promise<Behaviour>,
  port = 0,
): Promise<Endpoint> => {
  const taken: Taken[] = []
  const attempts = new Map<string, number>()
  let requests = 0
  let lastRelay: string | null = null

  const take = (request: IncomingMessage, body: string): void => {
    const { operation, id, before, after } = webhook.parse(JSON.parse(body))
    const revision = operation === 'delete' ? (before?.revision ?? 0) + 1 : (after?.revision ?? 0)
    taken.push({
      key: header(request, 'idempotency-key'),
      sale: id,
      revision,
      relay: lastRelay ?? '',
      epoch: BigInt(header(request, 'relay-epoch')),
    })
  }
  const answer = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const body = await text(request)
    const key = header(request, 'idempotency-key')
    const attempt = (attempts.get(key) ?? 0) + 1
    attempts.set(key, attempt)
    requests += 1
    lastRelay = header(request, 'user-agent').replace('webhook-relay/', '')
    const behaviour = await behave(key, attempt)
    if (behaviour.kind === 'accept' || behaviour.kind === 'accept-and-cut') take(request, body)
    if (behaviour.kind === 'accept') response.writeHead(204).end()
    else if (behaviour.kind === 'answer') {
      const { status, retryAfter } = behaviour
      response.writeHead(status, retryAfter === undefined ? {} : { 'Retry-After': String(retryAfter) }).end()
    } else if (behaviour.kind !== 'hang') request.socket.destroy()
  }
  const server = createServer((request, response) => {
    // The sender may be killed in the middle of its request.
    answer(request, response).catch(() => request.socket.destroy())
  })
  server.listen(port, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address() as AddressInfo
  return {
    url: `http://127.0.0.1:${address.port}/sales`,
    taken,
    get requests() {
      return requests
    },
    get lastRelay() {
      return lastRelay
    },
    async [Symbol.asyncDispose]() {
      server.close()
      server.closeAllConnections()
    },
  }
}
