import { readFile } from 'node:fs/promises'
import { type Client, escapeIdentifier, escapeLiteral } from 'pg'

/** Takes migrations back as psql would. */
export const runDown = async (client: Client, schema: string, names: readonly string[]): Promise<void> => {
  for (const name of names) {
    const file = await readFile(new URL(`../../../../migrations/${name}.down.sql`, import.meta.url), 'utf8')
    const sql = file
      .split('\n')
      .filter((line) => !/^\s*\\/.test(line))
      .join('\n')
      .replaceAll(':"schema"', escapeIdentifier(schema))
      .replaceAll(":'schema'", escapeLiteral(schema))
    await client.query(`BEGIN; ${sql}; COMMIT`)
  }
}
