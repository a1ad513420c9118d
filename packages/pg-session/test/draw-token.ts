import { fencingBaseSql } from '../src/index.ts'

/** A scalar SQL expression that draws the next token, as the statements of the lockers do. */
export const drawTokenSql = (schema: string): string =>
  `(${fencingBaseSql(schema)} + nextval('${schema}.fencing_tokens'))`
