import { describe, expect, it } from 'vitest'
import { readMigration, renderMigration } from '../../src/migration.ts'
import { migrationFiles } from '../../src/migration-files.ts'

const names = Object.keys(migrationFiles)
  .filter((file) => file.endsWith('.up.sql'))
  .map((file) => file.replace(/\.up\.sql$/, ''))

describe.each(names)('migration %s', (name) => {
  it('records itself', () => {
    const { version, compatibleWith } = readMigration(name)
    expect(version).toBeGreaterThanOrEqual(1)
    expect(compatibleWith).toBeGreaterThanOrEqual(1)
    expect(compatibleWith).toBeLessThanOrEqual(version)
  })

  it.each(['up', 'down'] as const)('%s leaves nothing of psql behind', (direction) => {
    const sql = renderMigration(name, direction, 'odd "name\\')
    expect(sql).not.toMatch(/^\s*\\/m)
    expect(sql).not.toMatch(/:["']schema/)
    expect(sql).toContain('"odd ""name\\"')
  })

  it('says nothing of the schema where psql would not replace it', () => {
    for (const file of [`${name}.up.sql`, `${name}.down.sql`]) {
      const bodies = migrationFiles[file]?.match(/\$(\w*)\$[\s\S]*?\$\1\$/g) ?? []
      expect(bodies.filter((body) => /:["']schema/.test(body))).toEqual([])
    }
  })

  it('can be installed alone', () => {
    const sql = renderMigration(name, 'up', 'home')
    expect(sql).toContain('CREATE SCHEMA IF NOT EXISTS "home"')
    expect(sql).toContain('CREATE TABLE IF NOT EXISTS "home".schema_versions')
    expect(renderMigration(name, 'up', 'home', { schemaExists: true })).not.toContain('CREATE SCHEMA')
  })
})

it('there are migrations, numbered without a gap', () => {
  expect(names.map((name) => Number(name.slice(0, 4)))).toEqual(names.map((_name, index) => index + 1))
})
