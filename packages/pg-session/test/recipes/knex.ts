import type { SqlExecutor } from '@x/lock-core'
import type { Knex } from 'knex'

export const knexExecutor = (trx: Knex.Transaction): SqlExecutor => ({
  query: async (text: string, values: unknown[]) => {
    const used: unknown[] = []
    const numbered = text.replaceAll('?', '\\?').replace(/\$(\d+)/g, (_, n) => {
      used.push(values[Number(n) - 1])
      return '?'
    })
    const { rows }: { rows: unknown[] } = await trx.raw(numbered, used as Knex.RawBinding[])
    return rows
  },
})
