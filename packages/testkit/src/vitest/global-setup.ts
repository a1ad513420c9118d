import { randomBytes } from 'node:crypto'
import type { TestProject } from 'vitest/node'
import { dropRunDatabases } from '../database/template.ts'
import { type PostgresServer, startPostgres } from '../postgres/start-postgres.ts'

/** What the workers of a run need to know of its server. */
export interface RunServer {
  readonly url: string
  readonly runId: string
  readonly major: number
}

declare module 'vitest' {
  interface ProvidedContext {
    postgres: RunServer
  }
}

interface SharedServer {
  readonly started: Promise<PostgresServer>
  readonly runId: string
  users: number
}

// vitest loads this file once a project; the projects of a run share one server through the process.
const slot = Symbol.for('coordination.testkit.server')
const shared = globalThis as { [slot]?: SharedServer | undefined }

/** Starts the server of this run, or joins it; the last project to end stops it. */
export default async (project: TestProject): Promise<() => Promise<void>> => {
  shared[slot] ??= {
    started: startPostgres({ report: (line) => console.log(line) }),
    runId: randomBytes(4).toString('hex'),
    users: 0,
  }
  const mine = shared[slot]
  mine.users += 1
  const server = await mine.started
  project.provide('postgres', { url: server.url, runId: mine.runId, major: server.major })
  return async () => {
    mine.users -= 1
    if (mine.users > 0) return
    shared[slot] = undefined
    await endServer(server, mine.runId)
  }
}

/** On an existing server databases of failed tests are kept; our own is kept only when `KEEP_POSTGRES=1` asks for it. */
const endServer = async (server: PostgresServer, runId: string): Promise<void> => {
  if (process.env.KEEP_POSTGRES === '1') {
    const command = await server.keep()
    if (command !== null) {
      console.log(`Kept ${server.url}; end it with: ${command}`)
      return
    }
    if (server.provider === 'container') console.log('KEEP_POSTGRES: a container ends with its run and cannot be kept')
  }
  if (server.provider === 'url') await dropRunDatabases(server.url, runId)
  await server.stop()
}
