import { describe, expect, it } from 'vitest'
import { parseOptions, UsageError, usage } from '../../src/options.ts'

describe('the command line of the demo', () => {
  it('runs four replicas for thirty seconds unless told otherwise', () => {
    expect(parseOptions([])).toEqual({
      durationMs: 30_000,
      nodes: 4,
      rate: 400,
      keep: false,
      url: undefined,
      help: false,
    })
  })

  it('takes every option that its usage names', () => {
    const args = [
      '--duration=8',
      '--nodes',
      '3',
      '--rate=50',
      '--keep',
      '--url=postgres://me:secret@db.example:6543/shop',
    ]
    expect(parseOptions(args)).toEqual({
      durationMs: 8_000,
      nodes: 3,
      rate: 50,
      keep: true,
      url: 'postgres://me:secret@db.example:6543/shop',
      help: false,
    })
    for (const name of ['duration', 'nodes', 'rate', 'keep', 'url', 'help']) expect(usage).toContain(`--${name}`)
  })

  it.each([
    [['--duration', 'soon'], /--duration takes a whole number of seconds from 5 to 3600; got "soon"/],
    [['--duration', '4'], /--duration takes/],
    [['--duration', '1e3'], /--duration takes/],
    [['--nodes', '1'], /--nodes takes a whole number from 2 to 16/],
    [['--nodes=-3'], /--nodes takes/],
    [['--rate', '0'], /--rate takes/],
    [['--rate', ''], /--rate takes/],
    [['--fast'], /--fast/],
    [['replicas'], /replicas/],
    [['--nodes'], /--nodes/],
  ])('refuses %j and says why', (args, message) => {
    expect(() => parseOptions(args)).toThrow(UsageError)
    expect(() => parseOptions(args)).toThrow(message)
  })

  it('never repeats a connection string, which may hold a password', () => {
    for (const url of ['mysql://me:secret@db/shop', 'postgres://me:secret@[db/shop', 'secret']) {
      expect(() => parseOptions(['--url', url])).toThrow(/--url takes a connection string/)
      expect(() => parseOptions(['--url', url])).not.toThrow(/secret/)
    }
  })
})
