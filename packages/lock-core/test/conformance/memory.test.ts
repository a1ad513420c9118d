import { describe, it } from 'vitest'
import { lockerConformance } from '../../src/conformance/index.ts'
import { createMemoryLocker } from '../../src/memory/index.ts'
import { Sessions } from '../sessions.ts'

const sessions = new Sessions()

lockerConformance({
  name: 'the memory locker',
  runner: { describe, it, skip: (name, reason) => it.skip(`${name} (${reason})`, () => {}) },
  capabilities: createMemoryLocker().capabilities,
  createLocker: async () => sessions.create(),
  ttlMs: 100,
  hooks: sessions.hooks,
})
