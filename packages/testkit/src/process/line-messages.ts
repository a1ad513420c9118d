import { writeSync } from 'node:fs'
import { createInterface } from 'node:readline'
import type { ZodType } from 'zod'

/** Marks a line of ours among whatever else a process prints. */
const mark = '\u0001'

/**
 * From a child to the process that spawned it. Written synchronously: what was said before a SIGKILL was heard. A full
 * pipe is waited for.
 */
export const tell = (message: object): void => {
  const line = Buffer.from(`${mark}${JSON.stringify(message)}\n`)
  let written = 0
  while (written < line.length) {
    try {
      written += writeSync(1, line, written)
    } catch (error) {
      if (!(error instanceof Error && 'code' in error && error.code === 'EAGAIN')) throw error
    }
  }
}

/** One line of a child: a message, or null for ordinary output. */
export const parseLine = <M>(line: string, schema: ZodType<M>): M | null =>
  line.startsWith(mark) ? schema.parse(JSON.parse(line.slice(mark.length))) : null

/** In a child: what `TestProcess.send` sent, one at a time, until the parent closes the stream. */
export async function* commands<C>(schema: ZodType<C>): AsyncGenerator<C> {
  for await (const line of createInterface({ input: process.stdin })) yield schema.parse(JSON.parse(line))
}
