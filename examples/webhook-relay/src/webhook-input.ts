import { createLeaderInput, type LeaderInput } from '@x/leader-input'
import type { TableLocker } from '@x/lock-table'
import type { Pool } from 'pg'
import type { Shop } from './shop.ts'

/** The input that all replicas share by its name. */
export const createWebhookInput = (options: {
  readonly pool: Pool
  readonly locker: TableLocker
  /** After how long a silent leader is replaced, milliseconds. */
  readonly takeoverMs?: number | undefined
  readonly log?: ((line: string) => void) | undefined
}): LeaderInput<Shop> => {
  const { pool, locker, takeoverMs, log = () => {} } = options
  const withFields = (fields: object, message: string): void =>
    log(`${message} ${JSON.stringify(fields, (_, value) => (value instanceof Error ? value.message : value))}`)
  return createLeaderInput<Shop>({
    ...{ pool, locker, takeoverMs, name: 'webhooks' },
    tables: ['sales'],
    operations: ['create', 'update', 'delete'],
    logger: { debug: () => {}, info: withFields, warn: withFields, error: withFields },
  })
}
