import { readFileSync } from 'node:fs'

export interface UnprivilegedUser {
  readonly name: string
  readonly uid: number
  readonly gid: number
}

/**
 * Who runs the server when we are root, because PostgreSQL refuses to: `postgres` where the system has it, else
 * `nobody`. Null for an ordinary user, who runs it as himself.
 */
export const unprivilegedUser = (): UnprivilegedUser | null => {
  if (process.getuid?.() !== 0) return null
  const accounts = readFileSync('/etc/passwd', 'utf8')
    .split('\n')
    .map((line) => line.split(':'))
  for (const name of ['postgres', 'nobody']) {
    const account = accounts.find((fields) => fields[0] === name)
    const uid = Number(account?.[2])
    const gid = Number(account?.[3])
    if (account && uid > 0 && gid > 0) return { name, uid, gid }
  }
  throw new Error(
    'PostgreSQL does not run as root, and neither of the users postgres and nobody exists here. ' +
      'Create one (`useradd --system postgres`), or run the tests as an ordinary user, or set DATABASE_URL.',
  )
}
