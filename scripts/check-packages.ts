// Judges every published package by its packed tarball: what its users will see, not what the workspace looks like.
import { spawnSync } from 'node:child_process'
import { readdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { type PackedPackage, packAll } from './packed.ts'

/** What a published declaration may import. Anything else would name a private package or force a type on the user. */
const allowedInTypes = /^(\.{1,2}\/|node:|@x\/lock-core(\/|$)|kysely$|@standard-schema\/spec$|zod$)/

/** Examples in docstrings import what they like. */
const withoutComments = (declaration: string): string => declaration.replace(/\/\*[\s\S]*?\*\//g, '')

const privateNames = (contents: string): readonly string[] =>
  readdirSync(join(contents, 'dist'), { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.d.ts'))
    .flatMap((file) =>
      [
        ...withoutComments(readFileSync(join(contents, 'dist', file), 'utf8')).matchAll(
          /(?:from|import\()\s*['"]([^'"]+)['"]/g,
        ),
      ]
        .map(([, specifier]) => specifier ?? '')
        .filter((specifier) => !allowedInTypes.test(specifier))
        .map((specifier) => `${file} names '${specifier}' in a published type`),
    )

const manifestFaults = (contents: string): readonly string[] => {
  const text = readFileSync(join(contents, 'package.json'), 'utf8')
  const manifest: { version?: string; devDependencies?: object; dependencies?: Record<string, string> } =
    JSON.parse(text)
  return [
    ...(text.includes('./src/') ? ['package.json of the tarball points at ./src/'] : []),
    ...(text.includes('workspace:') &&
    Object.values(manifest.dependencies ?? {}).some((range) => range.startsWith('workspace:'))
      ? ['package.json of the tarball has a workspace: range']
      : []),
  ]
}

const tool = (name: string, args: readonly string[]): readonly string[] => {
  const { status, stdout, stderr } = spawnSync(name, args, { encoding: 'utf8' })
  return status === 0 ? [] : [`${name}: ${stdout}${stderr}`]
}

/** Faults of one tarball, empty when there is none. */
export const faultsOf = ({ tarball, contents }: Pick<PackedPackage, 'tarball' | 'contents'>): readonly string[] => [
  ...privateNames(contents),
  ...manifestFaults(contents),
  ...tool('publint', ['run', tarball, '--strict']),
  ...tool('attw', [tarball, '--profile', 'esm-only', '--no-emoji', '--no-color']),
]

if (import.meta.main) {
  const { directory, packages } = packAll()
  try {
    const faults = packages.flatMap((each) => faultsOf(each).map((fault) => `${each.name}: ${fault}`))
    for (const fault of faults) console.error(fault)
    process.exitCode = faults.length > 0 ? 1 : 0
  } finally {
    rmSync(directory, { recursive: true })
  }
}
