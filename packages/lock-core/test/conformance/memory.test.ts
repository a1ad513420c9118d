import { describe, it } from 'vitest'
import { lockerConformance } from '../../src/conformance/index.ts'
import { createMemoryLocker } from '../../src/memory/index.ts'

const store = {}

lockerConformance({
  name: 'the memory locker',
  runner: { describe, it, skip: (name, reason) => it.skip(`${name} (${reason})`, () => {}) },
  capabilities: createMemoryLocker().capabilities,
  createLocker: async () => createMemoryLocker({ store }),
  ttlMs: 100,
  hooks: {
    async forceRelease(key) {
      await createMemoryLocker({ store }).forceRelease(key)
    },
  },
})
