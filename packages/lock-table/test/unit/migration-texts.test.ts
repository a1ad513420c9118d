import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { tableNames } from '../../src/names.ts'
import { tableStatements } from '../../src/statements.ts'

const names = tableNames('coordination', 'locks')
const statements = tableStatements(names)
const migration = readFileSync(new URL('../../../../migrations/0002_lock_table.up.sql', import.meta.url), 'utf8')

const plain = (sql: string): string => sql.replaceAll(/\s+/g, ' ').trim()

/** A statement as it would stand in a function, whose search path finds the tables. */
const unqualified = (sql: string): string =>
  plain(sql.replaceAll(names.fencingBase, 'FENCING_BASE').replaceAll(/"coordination"\."?(\w+)"?/g, '$1'))

const within = (begin: string, end: string): string =>
  plain(
    (migration.split(`-- ${begin}\n`)[1]?.split(new RegExp(`;?\\n\\s*-- ${end}\\n`))[0] ?? '').replaceAll(
      /coalesce\(\s*\(SELECT base FROM fencing[^)]*\(\)[^)]*\),\s*fencing_rebase\(\)\s*\)/g,
      'FENCING_BASE',
    ),
  )

describe('the functions of the migration run the text that runs where there are no functions', () => {
  it.each([
    ['renew shares', 'renewed shares', statements.renewShares],
    ['serve', 'served', statements.handOff],
  ] as const)('%s', (begin, end, statement) => {
    expect(within(begin, end)).toBe(unqualified(statement.afterwards.text))
    expect(within(begin, end).length).toBeGreaterThan(200)
  })
})
