import { Client, escapeIdentifier } from 'pg'

/** The application_name of every connection that the testkit itself opens; the leak check passes over them. */
export const testkitName = 'testkit'

/** The same server, another database. */
export const withDatabase = (url: string, database: string): string => {
  const changed = new URL(url)
  changed.pathname = `/${encodeURIComponent(database)}`
  return changed.href
}

/** Runs statements on the maintenance database over one short-lived connection. */
export const withAdmin = async <T>(url: string, fn: (client: Client) => Promise<T>): Promise<T> => {
  const client = new Client({ connectionString: url, application_name: testkitName })
  await client.connect()
  try {
    return await fn(client)
  } finally {
    await client.end()
  }
}

/** Drops a database with whoever is connected to it. */
export const dropDatabase = (url: string, name: string): Promise<void> =>
  withAdmin(url, async (client) => {
    await client.query(`DROP DATABASE IF EXISTS ${escapeIdentifier(name)} WITH (FORCE)`)
  })
