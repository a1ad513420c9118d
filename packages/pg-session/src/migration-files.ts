import { readdirSync, readFileSync } from 'node:fs'

const folder = new URL('../../../migrations/', import.meta.url)

/** The SQL files of `migrations/` by name. The build puts their contents in place of this module. */
export const migrationFiles: Readonly<Record<string, string>> = Object.fromEntries(
  readdirSync(folder)
    .filter((name) => name.endsWith('.sql'))
    .map((name) => [name, readFileSync(new URL(name, folder), 'utf8')]),
)
