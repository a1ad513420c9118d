import { once } from 'node:events'
import { rmSync } from 'node:fs'
import { createServer, type Server, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, expect, it, vi } from 'vitest'
import { containerEngineAnswers } from '../../src/postgres/container.ts'

const path = join(tmpdir(), `engine-${process.pid}.sock`)
const open = new Set<Socket>()
let engine: Server | null = null

/** A socket where a container engine would be. */
const listen = async (answer: string | null): Promise<void> => {
  engine = createServer((socket) => {
    open.add(socket)
    socket.on('error', () => {}) // whoever asks may have gone
    if (answer === 'hangs up') socket.end()
    else if (answer !== null) socket.once('data', () => socket.end(answer))
  }).listen(path)
  await once(engine, 'listening')
  vi.stubEnv('DOCKER_HOST', `unix://${path}`)
}

afterEach(() => {
  vi.unstubAllEnvs()
  for (const socket of open) socket.destroy()
  engine?.close()
  rmSync(path, { force: true })
})

it('takes an engine that answers its ping', async () => {
  await listen('HTTP/1.0 200 OK\r\n\r\nOK')
  expect(await containerEngineAnswers()).toBe(true)
})

it.each([
  ['refuses', 'HTTP/1.0 403 Forbidden\r\n\r\n'],
  ['says nothing', null],
  ['hangs up', 'hangs up'],
])('passes by an engine that %s', async (_, answer) => {
  await listen(answer)
  const started = performance.now()
  expect(await containerEngineAnswers()).toBe(false)
  expect(performance.now() - started).toBeLessThan(5_000)
})

it('passes by an engine that is not there', async () => {
  vi.stubEnv('DOCKER_HOST', 'unix:///nowhere/engine.sock')
  expect(await containerEngineAnswers()).toBe(false)
})
