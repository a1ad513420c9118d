import { setTimeout as delay } from 'node:timers/promises'
import { sqlStateOf } from '@x/pg-session'
import { unhurriedMs } from '../connection.ts'
import type { Connections } from '../connections.ts'
import { notInstalled } from '../leadership.ts'
import { endOfLineage } from './cursor.ts'
import type { LogStatements } from './statements.ts'

const attempts = 40

/**
 * Makes a log that was restored into another server usable: transaction ids of the old server mean nothing here. With
 * writers shut out, what was written before the restore becomes the rest of the old lineage, to be delivered by the old
 * snapshot, and what was written since, and will be, the new one.
 *
 * pg_upgrade keeps transaction ids and changes only the server's identifier: then that is all there is to do.
 */
export async function rebase(
  connections: Connections,
  statements: LogStatements,
  name: string,
  upgraded: boolean,
): Promise<void> {
  if (upgraded) {
    const [moved] = await connections.use((connection) => connection.rows(statements.adoptServer, [name]))
    if (moved === undefined) throw notInstalled(name)
    return
  }
  for (let attempt = 1; ; attempt++) {
    try {
      return await connections.transaction(async (connection) => {
        await connection.run(`SET LOCAL lock_timeout = 500; ${statements.lockLog}`)
        const [cursor] = await connection.rows(statements.lineages, [name])
        if (cursor === undefined) throw notInstalled(name)
        const [own, newest] = [Number(cursor[0]), Number(cursor[1])]
        // Several inputs share the log: the first of them begins the new lineage, the others follow.
        if (own === newest) {
          await connection.rows(statements.splitLineage, [own], unhurriedMs)
          await connection.run(statements.beginLineage(own + 1))
        }
        await connection.rows(statements.finishLineage, [name, endOfLineage])
      })
    } catch (error) {
      if (sqlStateOf(error) !== '55P03' || attempt >= attempts) throw error
      await delay(Math.random() * 500)
    }
  }
}
