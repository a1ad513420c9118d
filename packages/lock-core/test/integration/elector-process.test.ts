import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { describe, expect, it } from 'vitest'

const candidate = fileURLToPath(new URL('fixtures/candidate.ts', import.meta.url))

async function lifeOf(...args: string[]): Promise<string[]> {
  const { stdout } = await promisify(execFile)(process.execPath, [candidate, ...args], { timeout: 45_000 })
  return stdout.trim().split('\n')
}

describe('a process whose only work is an office', () => {
  it('lives as a candidate and as the leader, over the loss of its lock, until its elector is stopped', async () => {
    expect(await lifeOf()).toEqual([
      'lives as a candidate',
      'lives in term 1',
      'lives in term 2',
      'stopped',
      'ends stopped',
    ])
  })

  it('lives no longer than its locker', async () => {
    expect(await lifeOf('closed')).toEqual([
      'lives as a candidate',
      'lives in term 1',
      'lives in term 2',
      'ends stopped',
    ])
  })
})
