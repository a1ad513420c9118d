import { setTimeout as delay } from 'node:timers/promises'
import { eventually, runningProcesses, spawnNode } from '@x/testkit'
import { expect, it } from 'vitest'
import { z } from 'zod'

const child = new URL('../fixtures/child.ts', import.meta.url)
const messages = z.object({ said: z.string() })

it('exchanges messages with a process and kills it', async () => {
  await using process = await spawnNode(child, { messages })
  await process.message(({ said }) => said === 'ready')
  process.send({ say: 'pong' })
  await process.message(({ said }) => said === 'pong')
  expect(process.output()).toBe('ordinary output')
  expect(await process.kill()).toEqual({ code: null, signal: 'SIGKILL' })
  expect(runningProcesses()).toEqual([])
})

it('stops a process where it stands and lets it go on', async () => {
  await using process = await spawnNode(child, { messages })
  await process.message(({ said }) => said === 'beat')
  process.pause()
  // What was written before the signal still arrives; then there is silence.
  const heard = await eventually(async () => {
    const before = process.messages.length
    await delay(300)
    return process.messages.length === before ? before : null
  })
  process.resume()
  await process.message((message) => process.messages.indexOf(message) >= heard)
})

it('tells why a message will never come', async () => {
  await using process = await spawnNode(new URL('../fixtures/failing-child.ts', import.meta.url), { messages })
  await expect(process.message(({ said }) => said === 'never')).rejects.toThrow(/the process ended[\s\S]*on purpose/)
  await expect(process.exited).resolves.toEqual({ code: 1, signal: null })
})
