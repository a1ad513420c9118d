const secret = /pass|secret|token|credential|connection|url|ssl|config/i

/** A connection string, in either of its two forms, may stand where something else was expected. */
const secretText = /:\/\/|pass|secret/i

/**
 * A value for an error message: short, and without anything that may hold a password.
 * @param path the names that lead to it, which tell whether it is a secret
 */
export function describeValue(value: unknown, path: readonly string[] = []): string {
  if (value === undefined) return 'nothing'
  if (value === null || typeof value === 'number' || typeof value === 'boolean' || typeof value === 'bigint') {
    return String(value)
  }
  if (typeof value === 'string' && !secretText.test(value) && !path.some((part) => secret.test(part))) {
    return JSON.stringify(value.length > 60 ? `${value.slice(0, 57)}...` : value)
  }
  if (typeof value === 'function') return 'a function'
  if (Array.isArray(value)) return value.length === 0 ? 'an empty array' : 'an array'
  if (typeof value === 'object') {
    const name: unknown = Reflect.get(value, 'constructor')
    if (typeof name === 'function' && name !== Object && name.name !== '') return `an instance of ${name.name}`
  }
  return `a value of type ${typeof value}`
}
