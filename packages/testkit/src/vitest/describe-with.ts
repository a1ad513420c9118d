import { describe, it } from 'vitest'
import { findProgram, howToInstall, type SystemProgram } from '../servers/system-program.ts'

/** A `describe` that needs a program of the system; without it, one skipped test that says how to get it. */
export const describeWith = (program: SystemProgram, name: string, fn: () => void): void => {
  if (findProgram(program) !== null) {
    describe(name, fn)
    return
  }
  describe(name, () => {
    it(`needs ${program}`, ({ skip }) => skip(howToInstall(program)))
  })
}
