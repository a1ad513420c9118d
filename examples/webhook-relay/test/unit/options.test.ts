import { expect, it } from 'vitest'
import { parseOptions, UsageError, usage } from '../../src/options.ts'

const endpoint = ['--endpoint', 'https://user:secret@example.com/hook']

it('takes every option that its usage names, and the database from the environment', () => {
  const all = ['--url=postgres://db/shop', '--name=a', '--timeout=50', '--takeover', '500']
  expect(parseOptions([...endpoint, ...all], {})).toEqual({
    endpoint: 'https://user:secret@example.com/hook',
    url: 'postgres://db/shop',
    name: 'a',
    timeoutMs: 50,
    takeoverMs: 500,
  })
  expect(parseOptions(endpoint, { DATABASE_URL: 'postgresql://other/shop' })).toMatchObject({
    url: 'postgresql://other/shop',
    name: `relay-${process.pid}`,
    timeoutMs: 10_000,
    takeoverMs: 5_000,
  })
  expect(parseOptions(['--help'], {})).toBeNull()
  for (const name of ['endpoint', 'url', 'name', 'timeout', 'takeover', 'help']) expect(usage).toContain(`--${name}`)
})

it.each([
  [[], /--endpoint takes the URL/],
  [['--endpoint', 'ftp://secret@host'], /--endpoint takes/],
  [endpoint, /--url takes a connection string.*DATABASE_URL/],
  [[...endpoint, '--url', 'mysql://me:secret@db'], /--url takes/],
  [[...endpoint, '--url', 'postgres://db', '--timeout', '49'], /--timeout takes whole milliseconds from 50/],
  [[...endpoint, '--url', 'postgres://db', '--takeover', '1e3'], /--takeover takes/],
  [[...endpoint, '--url', 'postgres://db', '--name', ''], /--name takes/],
  [['--fast'], /--fast/],
  [['somewhere'], /somewhere/],
])('refuses %j, says why, and repeats no URL', (args, message) => {
  expect(() => parseOptions(args, {})).toThrow(UsageError)
  expect(() => parseOptions(args, {})).toThrow(message)
  expect(() => parseOptions(args, {})).not.toThrow(/secret/)
})
