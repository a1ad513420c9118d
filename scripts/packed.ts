import { execFileSync } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = dirname(dirname(fileURLToPath(import.meta.url)))

/** A published package as its users get it: the tarball, not the workspace. */
export interface PackedPackage {
  readonly name: string
  readonly directory: string
  readonly tarball: string
  /** The unpacked tarball. */
  readonly contents: string
}

/** Packs every package that is not private into a temporary directory; the caller removes `directory`. Needs a build. */
export const packAll = (): { readonly directory: string; readonly packages: readonly PackedPackage[] } => {
  const directory = mkdtempSync(join(tmpdir(), 'coordination-packed-'))
  const folders = readdirSync(join(root, 'packages'), { withFileTypes: true }).filter((entry) => entry.isDirectory())
  const packages = folders.flatMap(({ name: folder }) => {
    const source = join(root, 'packages', folder)
    const manifest: { name: string; private?: boolean } = JSON.parse(readFileSync(join(source, 'package.json'), 'utf8'))
    if (manifest.private === true) return []
    const tarball = join(directory, `${folder}.tgz`)
    execFileSync('pnpm', ['pack', '--out', tarball], { cwd: source, stdio: 'pipe' })
    const contents = join(directory, folder)
    execFileSync('sh', ['-c', `mkdir -p "$1" && tar -xzf "$2" -C "$1" --strip-components 1`, 'sh', contents, tarball])
    return [{ name: manifest.name, directory: source, tarball, contents }]
  })
  return { directory, packages }
}
