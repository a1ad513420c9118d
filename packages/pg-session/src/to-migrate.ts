/** @default of every `schema` option */
export const defaultSchema = 'coordination'

/** What to do where tables are missing, as a line to copy. */
export function toMigrate(entry: string, schema: string): string {
  const options = schema === defaultSchema ? '' : `, { schema: ${JSON.stringify(schema)} }`
  return `run once: import { migrate } from '${entry}'; await migrate(pool${options}); or apply its files in migrations/ with psql`
}
