import { execFileSync } from 'node:child_process'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { PackedPackage } from '../../scripts/packed.ts'

/** What each package asks its user to bring, and what its README's snippets wire it to. */
const brings: Readonly<Record<string, readonly string[]>> = {
  '@x/lock-core': [],
  '@x/lock-table': ['pg'],
  '@x/lock-advisory': ['pg'],
  '@x/cluster-discovery': ['pg'],
  '@x/leader-input': ['pg', 'kysely', '@x/lock-table'],
}

const workspaceVersion = (name: string): string => {
  const manifest: { version: string } = JSON.parse(
    readFileSync(new URL(`../node_modules/${name}/package.json`, import.meta.url), 'utf8'),
  )
  return `${name}@${manifest.version}`
}

/** An empty project into which npm installs the tarball of `name`, its peers and, besides these, only what `extra` names. */
export const createFreshProject = (
  name: string,
  packages: readonly PackedPackage[],
  directory: string,
  extra: readonly string[] = [],
): string => {
  const project = join(directory, `project-${name.replace(/\W/g, '-')}`)
  mkdirSync(project)
  writeFileSync(join(project, 'package.json'), JSON.stringify({ name: 'fresh', private: true, type: 'module' }))
  const ours = (wanted: string): string[] =>
    packages.filter((each) => each.name === wanted).map(({ tarball }) => `file:${tarball}`)
  const tarballs = new Set([
    ...ours('@x/lock-core'),
    ...ours(name),
    ...(brings[name] ?? []).filter((each) => each.startsWith('@x/')).flatMap(ours),
  ])
  const peers = (brings[name] ?? []).filter((each) => !each.startsWith('@x/')).map(workspaceVersion)
  execFileSync(
    'npm',
    [
      'install',
      '--no-audit',
      '--no-fund',
      '--prefer-offline',
      '--fetch-retries=5',
      '--loglevel=error',
      ...tarballs,
      ...peers,
      ...extra,
      workspaceVersion('@types/pg'),
    ],
    { cwd: project, stdio: 'pipe' },
  )
  return project
}

/** The TypeScript blocks of a Markdown file; those whose fence says `no-run` are compiled only. */
export const snippetsOf = (markdown: string): readonly { readonly code: string; readonly run: boolean }[] =>
  [...markdown.matchAll(/^```ts([^\n]*)\n([\s\S]*?)^```/gm)].map(([, info, code]) => ({
    code: code ?? '',
    run: !(info ?? '').includes('no-run'),
  }))
