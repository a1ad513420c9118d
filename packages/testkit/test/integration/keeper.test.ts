import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { expect, it } from 'vitest'

it('whose program fails is an error of whoever starts it, and no quiet end', async () => {
  const fixture = fileURLToPath(new URL('../fixtures/keeper-that-fails.ts', import.meta.url))
  const { code, stderr } = await new Promise<{ code: unknown; stderr: string }>((resolve) => {
    execFile(process.execPath, [fixture], (error, _, text) => resolve({ code: error?.code ?? 0, stderr: text }))
  })
  expect(stderr).toContain('the keeper of the PostgreSQL server ended')
  expect(code).toBe(1)
})
