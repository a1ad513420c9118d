import { ClosedError } from '@x/lock-core'
import {
  type CompiledQuery,
  type DatabaseConnection,
  type Driver,
  Kysely,
  type KyselyPlugin,
  PostgresAdapter,
  PostgresIntrospector,
  PostgresQueryCompiler,
  type QueryResult,
  type Transaction,
} from 'kysely'
import type { Connection } from './connections.ts'
import type { HandlerContext } from './options.ts'

/** What a handler writes through: the transaction of its batch, as Kysely and as plain SQL. */
export interface HandlerTransaction<DB> {
  readonly client: HandlerContext<DB>['client']
  /** Whether the handler has sent anything. */
  readonly used: boolean
  /** Runs `fn` with a Kysely transaction over the connection; both ends of the transaction are the batch's affair. */
  run<T>(fn: (trx: Transaction<DB>) => Promise<T>): Promise<T>
  /** Nothing more may be sent: the batch is over. */
  end(): void
}

export function handlerTransaction<DB>(
  connection: Connection,
  plugins: readonly KyselyPlugin[],
): HandlerTransaction<DB> {
  let used = false
  let ended = false
  const send = (text: string, values?: unknown[]): ReturnType<Connection['raw']> => {
    if (ended)
      throw new ClosedError("handler's transaction, because its batch is over: await every query in the handler")
    used = true
    return connection.raw(text, values)
  }
  return {
    client: { query: async (text, values) => send(text, values) },
    get used() {
      return used
    },
    run(fn) {
      const kysely = new Kysely<DB>({
        plugins: [...plugins],
        dialect: {
          createAdapter: () => new PostgresAdapter(),
          createDriver: () => new BatchDriver(send),
          createIntrospector: (db) => new PostgresIntrospector(db),
          createQueryCompiler: () => new PostgresQueryCompiler(),
        },
      })
      return kysely.transaction().execute(fn)
    },
    end() {
      ended = true
    },
  }
}

const mutations: ReadonlySet<string> = new Set(['INSERT', 'UPDATE', 'DELETE', 'MERGE'])

/** A driver over one connection that is in a transaction already: begin and commit are not its to say. */
class BatchDriver implements Driver {
  readonly #connection: DatabaseConnection

  constructor(send: Connection['raw']) {
    this.#connection = {
      async executeQuery<R>(compiled: CompiledQuery): Promise<QueryResult<R>> {
        const { rows, rowCount, command } = await send(compiled.sql, [...compiled.parameters])
        return mutations.has(command)
          ? { rows: rows as R[], numAffectedRows: BigInt(rowCount ?? 0) }
          : { rows: rows as R[] }
      },
      // biome-ignore lint/correctness/useYield: the interface asks for a generator
      async *streamQuery() {
        throw new ClosedError("handler's cursor: streaming is not available in a batch; select with a limit")
      },
    }
  }

  async init(): Promise<void> {}
  async acquireConnection(): Promise<DatabaseConnection> {
    return this.#connection
  }
  async beginTransaction(): Promise<void> {}
  async commitTransaction(): Promise<void> {}
  async rollbackTransaction(): Promise<void> {}
  async releaseConnection(): Promise<void> {}
  async destroy(): Promise<void> {}
}
