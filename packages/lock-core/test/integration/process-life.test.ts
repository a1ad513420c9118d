import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { describe, expect, it } from 'vitest'

/** What a process says until it ends by itself. */
async function lifeOf(fixture: string, ...args: string[]): Promise<string[]> {
  const file = fileURLToPath(new URL(`fixtures/${fixture}`, import.meta.url))
  const { stdout } = await promisify(execFile)(process.execPath, [file, ...args], { timeout: 120_000 })
  return stdout.trim().split('\n')
}

describe('a process whose only work is an office', () => {
  it('lives as a candidate and as the leader, over the loss of its lock, until its elector is stopped', async () => {
    expect(await lifeOf('candidate.ts')).toEqual([
      'lives as a candidate',
      'lives in term 1',
      'lives in term 2',
      'stopped',
      'ends stopped',
    ])
  })

  it('lives no longer than its locker', async () => {
    expect(await lifeOf('candidate.ts', 'closed')).toEqual([
      'lives as a candidate',
      'lives in term 1',
      'lives in term 2',
      'ends stopped',
    ])
  })

  it('is not held by a locker that never answers, once its elector was stopped', async () => {
    expect(await lifeOf('candidate-of-deaf-locker.ts')).toEqual(['lives as a candidate', 'ends stopping'])
  })
})

describe('a process whose only work is a wait', () => {
  it('lives until the ttl of the holder is over, and no longer than it needs the lock', async () => {
    expect(await lifeOf('waiter-for-a-ttl.ts')).toEqual(['granted'])
  })
})
