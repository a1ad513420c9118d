import { accessSync, constants } from 'node:fs'
import { delimiter, join } from 'node:path'

/** Programs that tests and benchmarks use when the system has them, with the Debian package that brings each. */
const packages = { pgbouncer: 'pgbouncer', 'redis-server': 'redis-server' } as const
export type SystemProgram = keyof typeof packages

/** Debian puts some servers where an ordinary user's PATH does not lead. */
const directories = (): string[] => [...(process.env.PATH ?? '').split(delimiter), '/usr/sbin', '/usr/local/sbin']

/** The path of a program, or null when it is not installed. */
export const findProgram = (name: SystemProgram): string | null => {
  for (const directory of directories()) {
    const path = join(directory, name)
    try {
      accessSync(path, constants.X_OK)
      return path
    } catch {
      // Look further.
    }
  }
  return null
}

/** How to get it. */
export const howToInstall = (name: SystemProgram): string => `apt-get install ${packages[name]}`

/** @throws {Error} that says how to get it */
export const requireProgram = (name: SystemProgram): string => {
  const path = findProgram(name)
  if (path === null) throw new Error(`${name} is not installed here: ${howToInstall(name)}`)
  return path
}
