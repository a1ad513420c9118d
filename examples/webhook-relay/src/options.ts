import { parseArgs } from 'node:util'
import { z } from 'zod'

export const usage = `Usage: npm run relay -- --endpoint <url> [options]      any number of times, on any number of machines

  --endpoint <url>      where each change of a sale is posted
  --url <postgres://…>  the database (default: DATABASE_URL)
  --name <name>         what this replica is called (default: relay-<pid>)
  --timeout <ms>        how long the endpoint may take to answer, 50 to 600000 (default 10000)
  --takeover <ms>       after how long a silent leader is replaced, 500 to 600000 (default 5000)
  --help                print this
`

export interface RelayOptions {
  readonly endpoint: string
  readonly url: string
  readonly name: string
  readonly timeoutMs: number
  readonly takeoverMs: number
}

/** The command line was not understood: says which option, and what it takes. */
export class UsageError extends Error {
  override readonly name = 'UsageError'
}

const milliseconds = (least: number) =>
  z.string().regex(/^\d+$/).transform(Number).pipe(z.number().min(least).max(600_000))
const urlOf = (protocol: RegExp) => z.string().regex(protocol).refine(URL.canParse)

const schema = z.object({
  endpoint: urlOf(/^https?:\/\//),
  url: urlOf(/^postgres(ql)?:\/\//),
  name: z.string().min(1).max(40),
  timeout: milliseconds(50),
  takeover: milliseconds(500),
})

const expectations = {
  endpoint: 'the URL to post to, such as https://example.com/hooks/sales',
  url: 'a connection string such as postgres://user:password@host:5432/shop; DATABASE_URL does as well',
  name: '1 to 40 characters',
  timeout: 'whole milliseconds from 50 to 600000',
  takeover: 'whole milliseconds from 500 to 600000',
} as const

/**
 * Reads the command line of one replica; null when help was asked for.
 *
 * @throws {UsageError} naming the option and what it takes, and never what it got: URLs may hold passwords
 */
export const parseOptions = (args: readonly string[], environment: NodeJS.ProcessEnv): RelayOptions | null => {
  const read = () => {
    try {
      return parseArgs({
        args: [...args],
        allowPositionals: false,
        options: {
          endpoint: { type: 'string' },
          url: { type: 'string', default: environment.DATABASE_URL ?? '' },
          name: { type: 'string', default: `relay-${process.pid}` },
          timeout: { type: 'string', default: '10000' },
          takeover: { type: 'string', default: '5000' },
          help: { type: 'boolean', default: false, short: 'h' },
        },
      }).values
    } catch (error) {
      throw new UsageError(error instanceof Error ? error.message : String(error), { cause: error })
    }
  }
  const values = read()
  if (values.help) return null
  const parsed = schema.safeParse(values)
  if (!parsed.success) {
    const option = z.enum(['endpoint', 'url', 'name', 'timeout', 'takeover']).parse(parsed.error.issues[0]?.path[0])
    throw new UsageError(`--${option} takes ${expectations[option]}.`)
  }
  const { endpoint, url, name, timeout, takeover } = parsed.data
  return { endpoint, url, name, timeoutMs: timeout, takeoverMs: takeover }
}
