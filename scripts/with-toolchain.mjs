// Runs a command with the repository's own tools, installing them first where they are missing or out of date.
// Written for the oldest Node.js that a machine may have: everything after it runs on the Node.js from node_modules.
import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { constants } from 'node:os'
import { delimiter, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = dirname(dirname(fileURLToPath(import.meta.url)))
const bin = join(root, 'node_modules', '.bin')
// Not `.bin/node`: that is a shell script around it, in which a signal ends.
const nodeDirectory = join(root, 'node_modules', 'node', 'bin')
const stamp = join(root, 'node_modules', '.installed-for')
const { packageManager } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
const wanted = createHash('sha256')
  .update(readFileSync(join(root, 'pnpm-lock.yaml')))
  .digest('hex')

/** Parent and command of a process, where the system tells (Linux). */
const familyOf = (pid) => {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    return {
      parent: Number(stat.split(') ').at(-1).split(' ')[1]),
      command: readFileSync(`/proc/${pid}/cmdline`, 'utf8'),
    }
  } catch {
    return null
  }
}

/** Who waits for us: npm and the shells that it put in between. When one of them is gone, nobody waits any more. */
const ancestors = () => {
  const chain = [process.ppid]
  for (let family = familyOf(process.ppid); family; family = familyOf(family.parent)) {
    const starter = familyOf(family.parent)
    // Beyond npm is somebody's terminal or script, which may well end before us.
    if (!family.command.includes('with-toolchain') || !starter || !/npm|with-toolchain/.test(starter.command)) break
    chain.push(family.parent)
  }
  return chain.join()
}

/** Runs a command to its end; signals pass on to it, and it ends when our parents do. */
const run = (command, args, env) =>
  new Promise((resolve, reject) => {
    const child = spawn(command, args, { cwd: root, stdio: 'inherit', env, shell: process.platform === 'win32' })
    const forward = (signal) => void child.kill(signal)
    const signals = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT']
    for (const signal of signals) process.on(signal, forward)
    const parents = ancestors()
    const watch = setInterval(() => {
      if (ancestors() === parents) return
      clearInterval(watch)
      child.kill('SIGTERM')
      setTimeout(() => child.kill('SIGKILL'), 3_000).unref()
    }, 500)
    child.once('error', reject)
    child.once('exit', (code, signal) => {
      clearInterval(watch)
      for (const each of signals) process.off(each, forward)
      resolve(code ?? 128 + (constants.signals[signal] ?? 0))
    })
  })

const install = async () => {
  const started = Date.now()
  console.log(`Installing the tools and dependencies with ${packageManager} (about a minute the first time) …`)
  const status = await run('npx', ['--yes', packageManager, 'install', '--frozen-lockfile'], {
    ...process.env,
    CI: 'true',
  })
  if (status !== 0) {
    console.error(`The installation failed (exit code ${status}); nothing was run.`)
    process.exit(status)
  }
  writeFileSync(stamp, wanted)
  console.log(`Installed in ${Math.round((Date.now() - started) / 1000)} s.`)
}

/** The Node.js of node_modules; on a platform that has no such package, our own when it is new enough. */
const node = () => {
  const own = join(nodeDirectory, process.platform === 'win32' ? 'node.exe' : 'node')
  if (existsSync(own)) return own
  if (Number(process.versions.node.split('.')[0]) >= 24) return process.execPath
  console.error(
    `Node.js 24 was not installed into node_modules, and ${process.version} is too old: install Node.js 24.`,
  )
  process.exit(1)
}

if (!existsSync(stamp) || readFileSync(stamp, 'utf8') !== wanted) await install()
const [command, ...args] = process.argv.slice(2)
const env = { ...process.env, PATH: [nodeDirectory, bin, process.env.PATH].join(delimiter) }
process.exit(await run(command === 'node' ? node() : command, args, env))
