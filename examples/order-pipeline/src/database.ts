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

/** The server cannot be reached, or its user may not create a database. */
export class UnusableServerError extends Error {
  override readonly name = 'UnusableServerError'
}

const usable = async <T>(server: Promise<T>): Promise<T> => {
  try {
    return await server
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause)
    const expected = 'expected a PostgreSQL server that answers, and a user who may create a database'
    throw new UnusableServerError(`${expected}; got: ${reason}\nLook at --url and DATABASE_URL.`, { cause })
  }
}

/**
 * A new database with the tables of the shop: on the given server, else on that of `DATABASE_URL`, else in a container or
 * in an embedded PostgreSQL that is gone with this process.
 *
 * @throws {UnusableServerError}
 */
export const createRunDatabase = async (given: string | undefined): Promise<RunDatabase> => {
  await using cleanUp = new AsyncDisposableStack()
  const found = given === undefined ? cleanUp.use(await usable(startPostgres())) : null
  const server = given ?? found?.url ?? ''
  const name = `order_pipeline_${randomBytes(6).toString('hex')}`
  await usable(withAdmin(server, (client) => client.query(`CREATE DATABASE ${escapeIdentifier(name)}`)))
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
