import { type Picture, render, renderLine } from './picture.ts'

/** A place to show the run: `log` keeps a line for good, `show` keeps the picture up to date. */
export interface Screen extends Disposable {
  log(line: string): void
  show(picture: Picture): void
}

/** The part of `process.stdout` that a screen needs. */
export interface Output {
  readonly isTTY?: boolean
  write(text: string): unknown
}

const noWrap = '\x1b[?7l'
const wrap = '\x1b[?7h'
const clearDown = '\x1b[J'

/** The log scrolls above a picture that is drawn again in place. */
const liveScreen = (out: Output): Screen => {
  let drawn: string[] = []
  // Lines that are too long are cut by the terminal: a wrapped line would take up two rows and move the picture.
  const redraw = (logged: string[], picture: string[]): void => {
    const up = drawn.length > 0 ? `\x1b[${drawn.length}A` : ''
    out.write(`${up}${clearDown}${noWrap}${[...logged, ...picture].map((line) => `${line}\n`).join('')}${wrap}`)
    drawn = picture
  }
  return {
    log: (line) => redraw([line], drawn),
    show: (picture) => redraw([], render(picture)),
    [Symbol.dispose]: () => redraw([], []),
  }
}

const summaryEveryMs = 2_000

/** A plain log that only grows, for files and continuous integration. */
const plainScreen = (out: Output): Screen => {
  let shownAt = Number.NEGATIVE_INFINITY
  return {
    log: (line) => void out.write(`${line}\n`),
    show(picture) {
      if (picture.elapsedMs - shownAt < summaryEveryMs) return
      shownAt = picture.elapsedMs
      out.write(`${renderLine(picture)}\n`)
    },
    [Symbol.dispose]() {},
  }
}

export const createScreen = (out: Output): Screen => (out.isTTY ? liveScreen(out) : plainScreen(out))
