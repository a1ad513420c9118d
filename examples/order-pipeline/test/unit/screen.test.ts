import { stripVTControlCharacters } from 'node:util'
import { describe, expect, it } from 'vitest'
import { renderAudit } from '../../src/audit-table.ts'
import type { NodeStatus } from '../../src/messages.ts'
import { type Picture, type Replica, render, renderLine, renderTakeovers } from '../../src/picture.ts'
import { createScreen } from '../../src/screen.ts'

const status = (known: Partial<NodeStatus>): NodeStatus => ({
  type: 'node',
  members: [],
  viewVersion: 1n,
  input: 'standby',
  epoch: null,
  lag: null,
  jobRuns: 0,
  ...known,
})
const members = [
  { name: 'node-2', state: 'up' },
  { name: 'node-3', state: 'leaving' },
]
const replicas: Replica[] = [
  { name: 'node-1', pid: 11, process: 'killed', status: status({ input: 'leading', epoch: 4n, viewVersion: 9n }) },
  {
    name: 'node-2',
    pid: 12,
    process: 'running',
    status: status({ input: 'leading', epoch: 5n, members, viewVersion: 8n, lag: { events: 12, oldestMs: 40 } }),
  },
  { name: 'node-3', pid: 13, process: 'stopped', status: status({ input: 'leading', epoch: 3n, jobRuns: 7 }) },
]
const picture: Picture = { elapsedMs: 6_200, replicas, load: null, handled: 12_345, handledPerSecond: 410.4 }
const plain = (lines: readonly string[]): string => stripVTControlCharacters(lines.join('\n'))

describe('the picture', () => {
  it('shows who is a member, who leads with which epoch, events per second and lag', () => {
    const shown = plain(render(picture))
    expect(shown).toMatch(/6\.2 s {2}410 events\/s {2}lag 12 changes, 0\.0 s {2}12,345 handled/)
    expect(shown).toMatch(/node-1 +pid 11 +killed +-/)
    expect(shown).toMatch(/node-2 +pid 12 +running +up +0 +LEADS, epoch 5/)
    expect(shown).toMatch(/node-3 +pid 13 +stopped +leaving +7 +led, epoch 3$/)
  })

  it('fits into one line of a log', () => {
    expect(renderLine(picture)).toContain('node-2 leads in epoch 5  members: node-2 node-3 (leaving)')
  })
})

it('sums up takeovers', () => {
  expect(renderTakeovers([])).toBe('Takeovers after a fault: none')
  expect(renderTakeovers([3_541, 2_900])).toBe('Takeovers after a fault: 3.54 s, 2.90 s')
  expect(renderTakeovers([1_000, 5_000, 1_500, 1_200, 900])).toBe(
    'Takeovers after a fault: 5, median 1.20 s, longest 5.00 s',
  )
})

describe('the screen', () => {
  const written = (isTTY: boolean, use: (screen: ReturnType<typeof createScreen>) => void): string => {
    let text = ''
    const screen = createScreen({
      isTTY,
      write(more) {
        text += more
      },
    })
    use(screen)
    return text
  }

  it('draws the picture again in its place, below the log', () => {
    const text = written(true, (screen) => {
      screen.show(picture)
      screen.log('something happened')
    })
    const up = `\x1b[${render(picture).length}A`
    const [before, after] = text.split(up)
    expect(before).toContain('410 events/s')
    expect(after?.indexOf('something happened')).toBeLessThan(after?.indexOf('410 events/s') ?? 0)
  })

  it('only appends where nobody watches: no control characters, one line every two seconds', () => {
    const text = written(false, (screen) => {
      screen.show(picture)
      screen.show({ ...picture, elapsedMs: 7_000 })
      screen.log('something happened')
      screen.show({ ...picture, elapsedMs: 8_300 })
    })
    expect(text).toBe(stripVTControlCharacters(text))
    expect(text.split('\n').map((line) => line.slice(0, 9))).toEqual(['  6.2 s  ', 'something', '  8.3 s  ', ''])
  })
})

describe('the table of the audit', () => {
  const finding = { question: 'Lost: a change', compared: 1_000, violations: 0, samples: [] }

  it('says that all is well only if it is', () => {
    expect(plain(renderAudit({ findings: [finding], passed: true }))).toMatch(/ok +Lost: a change +0 in 1,000/)
  })

  it('shows violations with examples, and a question with nothing to look at', () => {
    const findings = [
      { ...finding, violations: 2, samples: ['order 1', 'order 2'] },
      { ...finding, compared: 0 },
    ]
    const shown = plain(renderAudit({ findings, passed: false }))
    expect(shown).toMatch(/FAIL +Lost: a change +2 in 1,000\n +order 1\n +order 2\n +FAIL .* nothing to look at/)
    expect(shown).toContain('The audit failed.')
  })
})
