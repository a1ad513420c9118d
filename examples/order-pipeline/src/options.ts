import { parseArgs } from 'node:util'
import { z } from 'zod'

export const usage = `Usage: npm run demo -- [options]

  --duration <seconds>  how long the load runs, 5 to 3600 (default 30)
  --nodes <count>       replicas, 2 to 16 (default 4)
  --rate <changes/s>    changes of orders that the load aims at, 1 to 10000 (default 400)
  --keep                go on until Ctrl-C, breaking something every now and then; then audit
  --url <postgres://…>  use this server instead of DATABASE_URL or an embedded one; the demo makes a database of its own
  --help                print this
`

export interface Options {
  readonly durationMs: number
  readonly nodes: number
  readonly rate: number
  readonly keep: boolean
  readonly url: string | undefined
  readonly help: boolean
}

/** The command line was not understood: says which option, what it takes, and what it got. */
export class UsageError extends Error {
  override readonly name = 'UsageError'
}

const wholeNumber = (least: number, most: number) =>
  z.string().regex(/^\d+$/).transform(Number).pipe(z.number().min(least).max(most))

const expectations = {
  duration: 'a whole number of seconds from 5 to 3600',
  nodes: 'a whole number from 2 to 16, so that there is someone to take over',
  rate: 'a whole number of changes per second from 1 to 10000',
  url: 'a connection string such as postgres://user:password@host:5432/postgres',
} as const

const schema = z.object({
  duration: wholeNumber(5, 3600),
  nodes: wholeNumber(2, 16),
  rate: wholeNumber(1, 10_000),
  keep: z.boolean(),
  help: z.boolean(),
  url: z
    .string()
    .regex(/^postgres(ql)?:\/\//)
    .refine(URL.canParse)
    .optional(),
})

const readArguments = (args: readonly string[]) => {
  try {
    return parseArgs({
      args: [...args],
      allowPositionals: false,
      options: {
        duration: { type: 'string', default: '30' },
        nodes: { type: 'string', default: '4' },
        rate: { type: 'string', default: '400' },
        keep: { type: 'boolean', default: false },
        help: { type: 'boolean', default: false, short: 'h' },
        url: { type: 'string' },
      },
    }).values
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error), { cause: error })
  }
}

/**
 * Reads the command line of the demo.
 *
 * @throws {UsageError} naming the option, what it takes, and what it got; a connection string is never repeated, since it
 * may hold a password.
 */
export const parseOptions = (args: readonly string[]): Options => {
  const values = readArguments(args)
  const parsed = schema.safeParse(values)
  if (!parsed.success) {
    const option = z.enum(['duration', 'nodes', 'rate', 'url']).parse(parsed.error.issues[0]?.path[0])
    const got = option === 'url' ? 'something else' : JSON.stringify(values[option])
    throw new UsageError(`--${option} takes ${expectations[option]}; got ${got}.`)
  }
  const { duration, nodes, rate, keep, url, help } = parsed.data
  return { durationMs: duration * 1000, nodes, rate, keep, url, help }
}
