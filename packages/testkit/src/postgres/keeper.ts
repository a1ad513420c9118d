/**
 * The process between a test run and its PostgreSQL server. It lives in a session of its own, so that neither Ctrl-C
 * nor a signal to the run's process group reaches it; it learns of the end of its parent, SIGKILL included, from the
 * closed channel, and then stops the server and removes its directory.
 */
import type { ChildProcess } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { deathSignalWrapper } from '../process/death-signal.ts'
import { freePort, PortTakenError } from '../process/free-port.ts'
import { makeTemporaryDirectory, ownDirectory, sweepAbandonedDirectories } from '../process/temporary-directory.ts'
import { unprivilegedUser } from '../process/unprivileged-user.ts'
import { copyAsStandby } from './base-backup.ts'
import { initDataDirectory, reachableBinaries } from './data-directory.ts'
import { type KeeperReply, type KeeperRequest, keeperRequest } from './keeper-protocol.ts'
import { type PostmasterOptions, startPostmaster, stopPostmaster } from './postmaster.ts'

const superuser = 'postgres'

interface Held {
  readonly directory: string
  options: PostmasterOptions
  child: ChildProcess
}
let held: Held | null = null
let directory: string | null = null
let kept = false

const start = async (request: Extract<KeeperRequest, { type: 'start' }>): Promise<KeeperReply['server']> => {
  sweepAbandonedDirectories()
  const user = unprivilegedUser()
  directory = makeTemporaryDirectory('postgres', user)
  ownDirectory(directory, process.pid)
  const root = reachableBinaries(request.root, directory, user)
  const password = request.standbyOf ? new URL(request.standbyOf.url).password : randomBytes(12).toString('hex')
  const dataDirectory = request.standbyOf
    ? await copyAsStandby({ primary: request.standbyOf, directory, user })
    : initDataDirectory({ root, directory, user, superuser, password })
  const logFile = join(directory, 'server.log')
  for (let attempt = 1; ; attempt += 1) {
    const options: PostmasterOptions = {
      ...{ root, dataDirectory, logFile, user, settings: request.settings },
      port: await freePort(),
      // Should the keeper itself be killed, the kernel tells the server.
      wrapper: deathSignalWrapper('QUIT'),
    }
    try {
      const child = await startPostmaster(options)
      held = { directory, options, child }
      const { port } = options
      const url = `postgres://${superuser}:${password}@127.0.0.1:${port}/postgres`
      return { url, port, pid: child.pid ?? 0, directory }
    } catch (error) {
      if (!(error instanceof PortTakenError) || attempt === 5) throw error
    }
  }
}

const end = async (): Promise<void> => {
  if (held) await stopPostmaster(held.child, 'immediate')
  held = null
  if (directory !== null) rmSync(directory, { recursive: true, force: true, maxRetries: 5 })
  directory = null
}

const answer = async (request: KeeperRequest): Promise<KeeperReply['server']> => {
  if (request.type === 'start') return start(request)
  if (request.type === 'close') {
    await end()
    return undefined
  }
  if (!held) throw new Error(`${request.type}: the server was not started`)
  if (request.type === 'stop') await stopPostmaster(held.child, request.mode)
  if (request.type === 'resume') held.child = await startPostmaster(held.options)
  if (request.type === 'keep') kept = true
  return undefined
}

const reply = (message: KeeperReply): void => {
  if (process.connected) process.send?.(message)
}

// One request at a time: the end of the parent during a start waits for the start, and then undoes it.
let queue: Promise<void> = Promise.resolve()
const enqueue = (task: () => Promise<void>): void => {
  queue = queue.then(task)
}

const finish = async (): Promise<void> => {
  await end()
  process.exit(0)
}

process.on('message', (message) => {
  enqueue(async () => {
    const request = keeperRequest.parse(message)
    try {
      const server = await answer(request)
      reply({ id: request.id, ...(server ? { server } : {}) })
    } catch (error) {
      reply({ id: request.id, error: error instanceof Error ? error.message : String(error) })
    }
    if (request.type === 'close') process.exit(0)
  })
})
process.on('disconnect', () => {
  if (!kept) enqueue(finish)
})
process.on('SIGTERM', () => enqueue(finish))
process.on('SIGINT', () => enqueue(finish))
process.on('SIGHUP', () => {})
