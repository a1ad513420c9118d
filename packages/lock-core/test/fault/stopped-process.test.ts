import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { afterAll, describe, it } from 'vitest'

const fixture = fileURLToPath(new URL('fixtures/holder.ts', import.meta.url))
const children: ChildProcess[] = []

function holder(env: Record<string, string> = {}): { child: ChildProcess; said: AsyncIterator<string> } {
  const child = spawn(process.execPath, [fixture], {
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  children.push(child)
  if (child.stdout === null) throw new Error('the child has no stdout')
  return { child, said: createInterface({ input: child.stdout })[Symbol.asyncIterator]() }
}

async function next(said: AsyncIterator<string>): Promise<{ held: boolean; aborted: boolean; remainingMs?: number }> {
  const { value } = await said.next()
  return JSON.parse(value)
}

afterAll(async () => {
  for (const child of children.splice(0)) {
    if (child.exitCode !== null || child.signalCode !== null) continue
    child.kill('SIGKILL')
    await once(child, 'exit')
  }
})

describe.concurrent('a process that is stopped past its deadline', () => {
  it('knows that the lock is lost in its first line after SIGCONT', async ({ expect }) => {
    const { child, said } = holder()
    expect(await next(said)).toEqual({ held: true, aborted: false })
    child.kill('SIGSTOP')
    // Not a wait for something to happen: this is the time for which the process stands still.
    await sleep(2_500)
    child.kill('SIGCONT')
    expect(await next(said)).toMatchObject({ held: false, aborted: true })
  })
})

describe.concurrent('a process whose wall clock steps', () => {
  it.for(['3600000', '-3600000'])('by %s ms keeps its lock, and loses it at its deadline', async (step, { expect }) => {
    const { child, said } = holder({ SHIFT_CLOCK_MS: step })
    expect(await next(said)).toEqual({ held: true, aborted: false })
    const stepped = await next(said)
    expect(stepped).toMatchObject({ held: true, aborted: false })
    expect(stepped.remainingMs).toBeLessThanOrEqual(1_500)
    child.kill('SIGSTOP')
    await sleep(2_500)
    child.kill('SIGCONT')
    expect(await next(said)).toMatchObject({ held: false, aborted: true })
  })
})
