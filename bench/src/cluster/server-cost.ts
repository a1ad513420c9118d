import { readdirSync, readFileSync } from 'node:fs'
import { Client } from 'pg'

/** What a server spent between two readings. */
export interface ServerCost {
  readonly seconds: number
  readonly statements: number
  readonly beats: number
  /** Of the sweeper. */
  readonly looks: number
  /** Of the standbys, at the sweeper. */
  readonly watches: number
  /** Both, and what else there is once a cluster, however many nodes. */
  readonly sweeps: number
  /** Mean execution time of a look, milliseconds. */
  readonly lookMs: number
  /** Mean execution time of a beat, milliseconds. */
  readonly beatMs: number
  readonly walBytes: number
  /** Processor time of all server processes, seconds. */
  readonly cpuSeconds: number
}

const own = '/* cost */'
/** Statements of the protocol, by words that no other statement has. */
const words = {
  beats: 'node_beats b SET at',
  looks: 'lease AS (',
  watches: 'cluster_sweepers s JOIN',
  takes: 'cluster_sweepers AS s (',
  prunes: 'doomed AS (',
}
const like = (text: string): string => `FILTER (WHERE query LIKE '%${text}%')`
const read = `${own} SELECT
    coalesce(sum(calls), 0)::float8 AS statements,
    ${Object.entries(words)
      .map(([kind, text]) => `coalesce(sum(calls) ${like(text)}, 0)::float8 AS ${kind}`)
      .join(', ')},
    coalesce(sum(total_exec_time) ${like(words.beats)}, 0)::float8 AS "beatTime",
    coalesce(sum(total_exec_time) ${like(words.looks)}, 0)::float8 AS "lookTime",
    pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::float8 AS wal,
    split_part(pg_read_file('postmaster.pid', 0, 64), E'\\n', 1) AS postmaster
  FROM pg_stat_statements WHERE query NOT LIKE '${own}%'`

interface Reading {
  statements: number
  beats: number
  looks: number
  watches: number
  takes: number
  prunes: number
  beatTime: number
  lookTime: number
  wal: number
  postmaster: string
}

/** Measures what the server spends while `work` runs. Needs pg_stat_statements. */
export const serverCost = async (url: string, work: () => Promise<void>): Promise<ServerCost> => {
  const client = new Client({ connectionString: url })
  await client.connect()
  try {
    await client.query(`${own} CREATE EXTENSION IF NOT EXISTS pg_stat_statements`)
    const snapshot = async (): Promise<Reading & { cpu: number; at: number }> => {
      const { rows } = await client.query<Reading>(read)
      const reading = rows[0]
      if (reading === undefined) throw new Error('expected one row of pg_stat_statements')
      return { ...reading, cpu: cpuSeconds(reading.postmaster), at: performance.now() }
    }
    const before = await snapshot()
    await work()
    const after = await snapshot()
    const spent = (name: Exclude<keyof Reading, 'postmaster'>): number => after[name] - before[name]
    return {
      seconds: (after.at - before.at) / 1_000,
      statements: spent('statements'),
      beats: spent('beats'),
      looks: spent('looks'),
      watches: spent('watches'),
      sweeps: spent('looks') + spent('watches') + spent('takes') + spent('prunes'),
      lookMs: spent('lookTime') / spent('looks'),
      beatMs: spent('beatTime') / spent('beats'),
      walBytes: spent('wal'),
      cpuSeconds: after.cpu - before.cpu,
    }
  } finally {
    await client.end()
  }
}

/** Clock ticks a second in /proc, on every Linux that Node.js runs on. */
const ticks = 100

/** Of the postmaster and all its children, the ended ones included. */
const cpuSeconds = (postmaster: string): number => {
  let total = 0
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    try {
      const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
      const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
      if (pid !== postmaster && fields[1] !== postmaster) continue
      total += Number(fields[11]) + Number(fields[12])
      if (pid === postmaster) total += Number(fields[13]) + Number(fields[14])
    } catch {
      // It ended while we looked.
    }
  }
  return total / ticks
}
