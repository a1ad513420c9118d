/**
 * The last one out. It does nothing until the channel to the parent closes; then it kills every child that is still
 * there and drops the run's database. A child that lost its parent ends by itself, unless it is stopped (SIGSTOP is one
 * of the faults of this demo) or busy; and a database on someone's own server has no other owner left.
 */
import { dropDatabase } from '@x/testkit'
import { z } from 'zod'

const settings = z.object({ server: z.string(), database: z.string() }).parse(JSON.parse(process.argv[2] ?? 'null'))
const children = new Set<number>()

process.on('SIGINT', () => {})
process.on('SIGTERM', () => {})
process.on('SIGHUP', () => {})

process.on('message', (message) => {
  const { pid, alive } = z.object({ pid: z.number(), alive: z.boolean() }).parse(message)
  if (alive) children.add(pid)
  else children.delete(pid)
})

process.on('disconnect', () => {
  for (const pid of children) {
    try {
      process.kill(pid, 'SIGKILL')
    } catch {
      // It was faster.
    }
  }
  // An embedded server is going down at this moment, and its database with it: then there is nothing to drop.
  dropDatabase(settings.server, settings.database).catch(() => {})
})
