import { randomBytes } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { dropDatabase, startPostgres, withAdmin, withDatabase } from '@x/testkit'
import { escapeIdentifier } from 'pg'

/** A database made for one run. */
export interface RunDatabase extends AsyncDisposable {
  readonly url: string
  /** The maintenance database of the server, from which ours is dropped. */
  readonly server: string
  readonly name: string
  /** Where the server came from, in words. */
  readonly origin: string
}

/**
 * A new database with the tables of the shop: on the given server, else on that of `DATABASE_URL`, else in a container or
 * in an embedded PostgreSQL that is gone with this process.
 */
export const createRunDatabase = async (given: string | undefined): Promise<RunDatabase> => {
  await using cleanUp = new AsyncDisposableStack()
  const found = given === undefined ? cleanUp.use(await startPostgres()) : null
  const server = given ?? found?.url ?? ''
  const name = `order_pipeline_${randomBytes(6).toString('hex')}`
  await withAdmin(server, (client) => client.query(`CREATE DATABASE ${escapeIdentifier(name)}`))
  cleanUp.defer(() => dropDatabase(server, name))
  const url = withDatabase(server, name)
  const schema = await readFile(new URL('./schema.sql', import.meta.url), 'utf8')
  await withAdmin(url, (client) => client.query(schema))
  const owned = cleanUp.move()
  const origin = found
    ? { url: 'DATABASE_URL', container: 'a container', embedded: 'embedded' }[found.provider]
    : '--url'
  return { url, server, name, origin, [Symbol.asyncDispose]: () => owned.disposeAsync() }
}
