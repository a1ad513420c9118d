import { describe, expect, it } from 'vitest'
import { lockerConformance } from '../../src/conformance/index.ts'
import { createMemoryLocker } from '../../src/memory/index.ts'

const complete = {
  name: 'mine',
  runner: { describe: () => {}, it: () => {}, skip: () => {} },
  capabilities: createMemoryLocker().capabilities,
  createLocker: async () => createMemoryLocker(),
}
const declare = (options: unknown): unknown => Reflect.apply(lockerConformance, null, [options])

describe('the options of the suite', () => {
  it('are those that it needs', () => {
    expect(() => declare(complete)).not.toThrow()
  })

  it.each<[unknown, string]>([
    [undefined, 'lockerConformance: expected an object of options; got nothing'],
    [
      { ...complete, runner: undefined },
      'option runner: expected { describe, it, skip } of your test runner; got nothing',
    ],
    [{ ...complete, runner: { describe, it } }, 'option runner.skip: expected a function; got nothing'],
    [{ ...complete, capabilities: undefined }, "option capabilities: expected the adapter's capabilities; got nothing"],
    [{ ...complete, createLocker: createMemoryLocker() }, 'option createLocker: expected a function'],
    [
      { ...complete, hooks: { endSesion() {} } },
      'option hooks.endSesion: there is no such option; did you mean endSession?',
    ],
    [{ ...complete, schedules: 0 }, 'option schedules: expected an integer above 0; got 0'],
  ])('say before any test is declared what is missing, or would be passed over (%#)', (options, message) => {
    expect(() => declare(options)).toThrow(expect.objectContaining({ code: 'INVALID_OPTIONS' }))
    expect(() => declare(options)).toThrow(message)
  })
})
