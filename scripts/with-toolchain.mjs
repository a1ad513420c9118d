// Runs a command with the repository's own tools, installing them first where they are missing or out of date.
// Written for the oldest Node.js that a machine may have: everything after it runs on the Node.js from node_modules.
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { delimiter, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = dirname(dirname(fileURLToPath(import.meta.url)))
const bin = join(root, 'node_modules', '.bin')
const stamp = join(root, 'node_modules', '.installed-for')
const { packageManager } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
const wanted = createHash('sha256').update(readFileSync(join(root, 'pnpm-lock.yaml'))).digest('hex')

const run = (command, args, env) => {
  const { status, signal, error } = spawnSync(command, args, { cwd: root, stdio: 'inherit', env })
  if (error) throw error
  if (signal) process.kill(process.pid, signal)
  return status ?? 1
}

if (!existsSync(stamp) || readFileSync(stamp, 'utf8') !== wanted) {
  console.log(`Installing the tools and dependencies with ${packageManager} (about a minute the first time) …`)
  const status = run('npx', ['--yes', packageManager, 'install', '--frozen-lockfile'], { ...process.env, CI: 'true' })
  if (status !== 0) process.exit(status)
  writeFileSync(stamp, wanted)
}

const [command, ...args] = process.argv.slice(2)
const env = { ...process.env, PATH: [bin, process.env.PATH].join(delimiter) }
process.exit(run(command === 'node' ? join(bin, 'node') : command, args, env))
