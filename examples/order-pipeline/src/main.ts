/**
 * The demo from beginning to end: a database, a cluster of processes on it, a load, a few disasters, and an audit.
 * `README.md` beside `src` says what to look at.
 */

import { CoordinationError } from '@x/lock-core'
import { UnusableServerError } from './database.ts'
import { followSignals, Interrupted } from './interruption.ts'
import { parseOptions, UsageError, usage } from './options.ts'
import { runPipeline } from './run-pipeline.ts'

const main = async (): Promise<number> => {
  const options = parseOptions(process.argv.slice(2))
  if (options.help) {
    console.log(usage)
    return 0
  }
  const { passed } = await runPipeline(options, followSignals(options.keep))
  return passed ? 0 : 1
}

const exitCode = (error: unknown): number => {
  if (error instanceof Interrupted) {
    console.log(`Stopped by ${error.message}; every process and the database are gone.`)
    return 130
  }
  if (error instanceof UsageError) {
    console.error(`${error.message}\n\n${usage}`)
    return 2
  }
  const saysItAll = error instanceof UnusableServerError || error instanceof CoordinationError
  console.error(saysItAll ? error.message : error)
  return 1
}

process.exitCode = await main().catch(exitCode)
// The signal handlers are the only thing left; they would not let the process end.
process.exit()
