import type { Generated } from 'kysely'

/** The table of `schema.sql` that is relayed. `bigint` arrives as a string, so no digit is lost. */
export interface Shop {
  sales: { id: Generated<string>; customer: string; cents: number; revision: Generated<number> }
}
