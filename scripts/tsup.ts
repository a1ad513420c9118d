import { cpSync, readdirSync, readFileSync } from 'node:fs'
import { defineConfig } from 'tsup'

const migrations = new URL('../migrations/', import.meta.url)

/**
 * One build for every published package: ESM with declarations, the private pg-session bundled in, and the SQL of
 * `migrations/` inlined in place of the module that reads it from disk while developing. The files themselves go to
 * `dist/migrations` of a package that has any, for those who apply them with psql.
 */
export const library = (entry: string[]): ReturnType<typeof defineConfig> =>
  defineConfig({
    entry,
    format: 'esm',
    target: 'node22',
    platform: 'node',
    dts: { resolve: [/^@x\/pg-session/, /^\.\.?\//] },
    sourcemap: true,
    clean: true,
    splitting: true,
    onSuccess: async () => {
      if (entry.includes('src/migrations.ts')) cpSync(migrations, 'dist/migrations', { recursive: true })
    },
    noExternal: ['@x/pg-session'],
    esbuildPlugins: [
      {
        name: 'inline-migrations',
        setup(build) {
          build.onLoad({ filter: /pg-session\/src\/migration-files\.ts$/ }, () => {
            const files = readdirSync(migrations).filter((name) => name.endsWith('.sql'))
            const contents = Object.fromEntries(
              files.map((name) => [name, readFileSync(new URL(name, migrations), 'utf8')]),
            )
            return { contents: `export const migrationFiles = ${JSON.stringify(contents)}`, loader: 'js' }
          })
        },
      },
    ],
  })
