// What no tool checks for us: nothing in the repository names a registry, a migration has both directions, …
import { execFileSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync } from 'node:fs'

const tracked = execFileSync('git', ['ls-files', '-z'], { encoding: 'utf8' })
  .split('\0')
  .filter((file) => file !== '' && existsSync(file))
const faults: string[] = []

const lock = readFileSync('pnpm-lock.yaml', 'utf8')
if (/https?:\/\//.test(lock))
  faults.push('pnpm-lock.yaml has a download address: it ties the repository to one registry')

const migrations = new Set(readdirSync('migrations').filter((file) => file.endsWith('.sql')))
for (const file of migrations) {
  if (!/^\d{4}_[a-z_]+\.(up|down)\.sql$/.test(file))
    faults.push(`migrations/${file}: expected NNNN_name.up.sql or NNNN_name.down.sql`)
  const other = file.endsWith('.up.sql') ? file.replace('.up.sql', '.down.sql') : file.replace('.down.sql', '.up.sql')
  if (!migrations.has(other)) faults.push(`migrations/${file} has no ${other}`)
}

for (const file of tracked.filter((name) => /(^|\/)(utils?|helpers?|types|common)(\.ts$|\/)/.test(name))) {
  faults.push(`${file}: a file is named for its one concept, not utils, helpers, types or common`)
}

const codes = [...readFileSync('packages/lock-core/src/errors.ts', 'utf8').matchAll(/'([A-Z]+(?:_[A-Z]+)*)'/g)].map(
  ([, code]) => code ?? '',
)
const documented = existsSync('docs/errors.md') ? readFileSync('docs/errors.md', 'utf8') : ''
for (const code of new Set(codes)) {
  if (!new RegExp(`^#+ .*${code}`, 'm').test(documented)) faults.push(`docs/errors.md has no heading for ${code}`)
}

for (const file of tracked.filter((name) => name.endsWith('.md'))) {
  for (const [, target] of readFileSync(file, 'utf8').matchAll(/\]\((?!https?:|#|mailto:)([^)#\s]+)[^)]*\)/g)) {
    const path = new URL(target ?? '', new URL(file, 'file:///')).pathname.slice(1)
    if (!existsSync(path)) faults.push(`${file} links to ${target}, which does not exist`)
  }
}

for (const fault of faults) console.error(fault)
process.exitCode = faults.length > 0 ? 1 : 0
