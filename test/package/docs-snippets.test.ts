import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { snippetsOf } from './fresh-project.ts'

/** Snippets of READMEs stand for themselves and are run; those of the guides are pieces of somebody's program. */
const surroundings = `
declare const pool: import('pg').Pool
declare const db: import('kysely').Kysely<Database>
declare const locker: import('@x/lock-core').Locker
declare const order: { readonly id: number }
declare const payments: { charge(given: typeof order, options: { idempotencyKey: string }): Promise<void> }
declare const id: string
declare const file: string
declare const address: string
declare const log: { warn(error: Error): void }
declare function accounts(): Promise<string[]>
declare function compute(signal: AbortSignal): Promise<string>
declare function dispatch(given: { signal: AbortSignal; token: bigint | null }): Promise<void>
declare function hostname(): string
declare function importFile(file: string, given: { signal: AbortSignal }): Promise<void>
declare function removeFromRing(node: { readonly id: string }): void
declare function report(account: string): Promise<void>
declare function updateTotals(trx: import('kysely').Transaction<Database>, event: { readonly seq: bigint }): Promise<void>
interface Database { orders: { id: number; state: string } }
`

const guides = ['choosing-a-lock', 'errors', 'operations', 'poolers', 'safety']

test('the snippets of the guides compile', () => {
  // Where imports of our packages resolve as they do in test/.
  const directory = mkdtempSync(new URL('../node_modules/docs-snippets-', import.meta.url).pathname)
  try {
    const files = guides.flatMap((guide) => {
      const snippets = snippetsOf(readFileSync(new URL(`../../docs/${guide}.md`, import.meta.url), 'utf8'))
      expect(snippets.length, guide).toBeGreaterThan(0)
      return snippets.map(({ code }, index) => {
        writeFileSync(join(directory, `${guide}-${index}.ts`), `${code}\nexport {}\n`)
        return `${guide}-${index}.ts`
      })
    })
    writeFileSync(join(directory, 'surroundings.d.ts'), surroundings)
    const options = { extends: '../../../tsconfig.base.json', files: ['surroundings.d.ts', ...files] }
    writeFileSync(join(directory, 'tsconfig.json'), JSON.stringify(options))
    expect(spawnSync('tsc', ['-p', 'tsconfig.json'], { cwd: directory, encoding: 'utf8' }).stdout).toBe('')
  } finally {
    rmSync(directory, { recursive: true })
  }
})
