/** Draws `bench/results/cluster.json` as `docs/design/membership.svg`: `node bench/src/cluster/plot.ts`. */
import { readFileSync, writeFileSync } from 'node:fs'
import { parse, View } from 'vega'
import { compile, type TopLevelSpec } from 'vega-lite'
import { z } from 'zod'

const spread = z.object({ median: z.number() })
const results = z.object({
  rows: z.array(
    z.object({
      id: z.string(),
      contenders: z.record(z.string(), z.object({ figures: z.record(z.string(), spread) })),
    }),
  ),
})

const file = new URL('../../results/cluster.json', import.meta.url)
const { rows } = results.parse(JSON.parse(readFileSync(file, 'utf8')))
const figuresOf = (id: string): { contender: string; figure: string; value: number }[] =>
  rows
    .filter((row) => row.id === id)
    .flatMap((row) => Object.entries(row.contenders))
    .flatMap(([contender, { figures }]) =>
      Object.entries(figures).map(([figure, { median }]) => ({ contender, figure, value: median })),
    )
const quantiles = ['p50Ms', 'p99Ms', 'maxMs']

const spec: TopLevelSpec = {
  $schema: 'https://vega.github.io/schema/vega-lite/v6.json',
  background: 'white',
  vconcat: [
    {
      title: 'C1: statements per node and second',
      data: { values: figuresOf('C1').filter(({ figure }) => figure === 'statementsPerNodeSecond') },
      mark: { type: 'bar', height: 14 },
      width: 420,
      encoding: {
        y: { field: 'contender', type: 'nominal', sort: null, title: null },
        x: { field: 'value', type: 'quantitative', title: null },
      },
    },
    {
      title: 'C2: a change seen by the last of all nodes, milliseconds',
      data: { values: figuresOf('C2').filter(({ figure }) => quantiles.includes(figure)) },
      mark: { type: 'point', filled: true, size: 70 },
      width: 420,
      encoding: {
        y: { field: 'contender', type: 'nominal', sort: null, title: null },
        x: { field: 'value', type: 'quantitative', title: null, scale: { type: 'log' } },
        color: { field: 'figure', type: 'nominal', sort: quantiles, title: null },
      },
    },
    {
      title: 'C3: a lost node of 100 known to the last of the others, milliseconds',
      data: { values: figuresOf('C3').filter(({ figure }) => quantiles.includes(figure)) },
      mark: { type: 'point', filled: true, size: 70 },
      width: 420,
      encoding: {
        y: { field: 'contender', type: 'nominal', sort: null, title: null },
        x: { field: 'value', type: 'quantitative', title: null },
        color: { field: 'figure', type: 'nominal', sort: quantiles, title: null },
      },
    },
    {
      title: 'C4: messages a second for 100 nodes',
      data: { values: figuresOf('C4').filter(({ figure }) => figure === 'messagesPerSecond') },
      mark: { type: 'bar', height: 14 },
      width: 420,
      encoding: {
        y: { field: 'contender', type: 'nominal', sort: null, title: null },
        x: { field: 'value', type: 'quantitative', title: null, scale: { type: 'log', domainMin: 1 } },
      },
    },
  ],
}

const view = new View(parse(compile(spec).spec), { renderer: 'none' })
writeFileSync(new URL('../../../docs/design/membership.svg', import.meta.url), `${await view.toSVG()}\n`)
