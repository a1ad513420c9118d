// Imports the modules named on the command line and says what that did besides: printing, timers, handles, environment.
const seen = []
const watch = (object, name, label) => {
  const original = object[name]
  object[name] = (...args) => {
    seen.push(label)
    return original.apply(object, args)
  }
}
for (const name of ['log', 'info', 'warn', 'error', 'debug']) watch(console, name, `console.${name}`)
for (const name of ['setTimeout', 'setInterval', 'setImmediate']) watch(globalThis, name, name)
watch(process, 'on', 'process.on')
const env = process.env
process.env = new Proxy(env, {
  get(target, name) {
    // Looking whether colours are wanted or a debugger's variable is set is the business of third parties.
    if (typeof name === 'string' && /^(POSTGRES_|PG|DATABASE)/.test(name)) seen.push(`process.env.${name}`)
    return target[name]
  },
})
const globals = new Set(Object.getOwnPropertyNames(globalThis))
const write = process.stdout.write.bind(process.stdout)
for (const specifier of process.argv.slice(2)) await import(specifier)
const handles = process
  .getActiveResourcesInfo()
  .filter((name) => !/^(TTYWrap|PipeWrap|FSReqPromise|CloseReq)$/.test(name))
// zod, a declared dependency, keeps two globals of its own so that its duplicates agree.
const added = Object.getOwnPropertyNames(globalThis).filter(
  (name) => !globals.has(name) && !name.startsWith('__zod_global'),
)
write(JSON.stringify({ seen, handles, added }))
