import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { eventually, spawnNode } from '@x/testkit'
import { expect, it } from 'vitest'
import { z } from 'zod'

const messages = z.object({ directory: z.string(), ports: z.array(z.number()) })

const isOpen = (port: number): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = connect({ port, host: '127.0.0.1' })
    socket.once('connect', () => resolve(true))
    socket.once('error', () => resolve(false))
    socket.once('close', () => socket.destroy())
  }).then((open) => open === true)

/** The postmaster of a data directory and its children, while they exist (Linux). */
const serverProcesses = (directory: string): string[] =>
  existsSync('/proc')
    ? readdirSync('/proc').filter((pid) => {
        try {
          return readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(directory)
        } catch {
          return false
        }
      })
    : []

it.each(['SIGKILL', 'SIGTERM', 'SIGINT'] as const)(
  'after %s to a parent neither its servers nor their files are there five seconds later',
  async (signal) => {
    await using parent = await spawnNode(new URL('../fixtures/owner-of-servers.ts', import.meta.url), { messages })
    const { directory, ports } = await parent.message(() => true)
    expect(existsSync(directory)).toBe(true)
    await parent.kill(signal)
    await eventually(
      async () => {
        expect(existsSync(directory)).toBe(false)
        expect(serverProcesses(directory)).toEqual([])
        expect(await Promise.all(ports.map(isOpen))).toEqual(ports.map(() => false))
        return true
      },
      // Five seconds are the promise; the rest is for a machine that is busy.
      { deadlineMs: 20_000 },
    )
  },
)

it('removes what a keeper left that was killed together with its parent', async () => {
  const file = new URL('../fixtures/owner-of-servers.ts', import.meta.url)
  await using parent = await spawnNode(file, { messages })
  const { directory } = await parent.message(() => true)
  const keeper = Number(readFileSync(`${directory}/keeper.pid`, 'utf8'))
  process.kill(keeper, 'SIGKILL')
  await parent.kill()
  if (process.platform === 'linux') await eventually(() => serverProcesses(directory).length === 0)
  // The next start sweeps.
  await using next = await spawnNode(file, { messages })
  await next.message(() => true)
  expect(existsSync(directory)).toBe(false)
  expect(directory.startsWith(tmpdir())).toBe(true)
})
