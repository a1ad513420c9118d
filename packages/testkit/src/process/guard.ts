/**
 * The process between a test run and a program that it started. As with PostgreSQL's keeper, the closed channel tells
 * of the end of the run; the program is then ended and its directory removed.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { openSync, rmSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import { deathSignalWrapper } from './death-signal.ts'
import { guardRequest } from './guard-protocol.ts'

const [message] = await once(process, 'message')
const { directory, program, args, logFile, user } = guardRequest.parse(message)

const log = openSync(logFile, 'a')
const [command = '', ...words] = [...deathSignalWrapper('KILL'), program, ...args]
const child = spawn(command, words, {
  cwd: directory,
  stdio: ['ignore', log, log],
  ...(user ? { uid: user.uid, gid: user.gid } : {}),
})
const ended = once(child, 'exit')

const finish = async (): Promise<void> => {
  child.kill('SIGTERM')
  const patience = delay(1_000, 'still there', { ref: false })
  if ((await Promise.race([ended, patience])) === 'still there') child.kill('SIGKILL')
  await ended
  rmSync(directory, { recursive: true, force: true, maxRetries: 5 })
  process.exit(0)
}
process.on('disconnect', finish)
process.on('SIGTERM', finish)
process.on('SIGINT', finish)
process.on('SIGHUP', () => {})
if (!process.connected) await finish()
process.send?.({ pid: child.pid })
const [code, signal] = await ended
if (process.connected) process.send?.({ ended: String(signal ?? code) })
