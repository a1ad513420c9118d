import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { lockerConformance } from '@x/lock-core/conformance'
import { afterAll, describe, it } from 'vitest'
import { capabilities, SqliteLocker } from '../../src/sqlite-locker.ts'

const folder = mkdtempSync(join(tmpdir(), 'sqlite-locker-'))
const path = join(folder, 'locks.db')

afterAll(() => rmSync(folder, { recursive: true }))

lockerConformance({
  name: 'the SQLite locker',
  runner: { describe, it, skip: (name, reason) => it.skip(`${name} (${reason})`, () => {}) },
  capabilities,
  createLocker: async () => new SqliteLocker(path),
  schedules: 20,
  renewsGivenTtl: true,
  hooks: {
    async forceRelease(key) {
      using db = new DatabaseSync(path)
      db.prepare('UPDATE locks SET owner = NULL WHERE key = ?').run(key)
    },
    async leaks() {
      using db = new DatabaseSync(path)
      const held = db.prepare(
        `SELECT key FROM locks WHERE owner IS NOT NULL AND expires_at > unixepoch('subsec') * 1000`,
      )
      const waiting = db.prepare('SELECT key FROM waiters')
      return [...held.all().map((row) => `held: ${row.key}`), ...waiting.all().map((row) => `waiting: ${row.key}`)]
    },
  },
})
