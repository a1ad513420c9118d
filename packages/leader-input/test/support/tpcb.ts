import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { accessSync, constants } from 'node:fs'
import { delimiter, join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import type { RandomSource } from '@x/testkit'
import { Client, type Pool } from 'pg'

/** The workload that nobody here wrote: TPC-B as pgbench has it, one unit of scale, eight clients. */
export interface Tpcb {
  readonly name: string
  /** Makes the four tables and fills them. */
  prepare(): Promise<void>
  /** Runs transactions for so many seconds, at most so many a second; 0 is as many as go. */
  run(seconds: number, perSecond: number): Promise<void>
}

const clients = 8

const findPgbench = (): string | null => {
  for (const directory of (process.env.PATH ?? '').split(delimiter)) {
    try {
      accessSync(join(directory, 'pgbench'), constants.X_OK)
      return join(directory, 'pgbench')
    } catch {
      // Look further.
    }
  }
  return null
}

/** The program itself, of whatever version the system has; null where it has none. */
export const pgbench = (url: string): Tpcb | null => {
  const program = findPgbench()
  if (program === null) return null
  const run = async (...args: string[]): Promise<void> => {
    const child = spawn(program, [...args, url], { stdio: ['ignore', 'ignore', 'pipe'] })
    let errors = ''
    child.stderr.on('data', (chunk) => {
      errors += String(chunk)
    })
    const [code] = await once(child, 'close')
    if (code !== 0) throw new Error(`pgbench ended with ${code}: ${errors}`)
  }
  return {
    name: 'pgbench',
    prepare: () => run('--initialize', '--quiet', '--scale=1'),
    run: (seconds, perSecond) =>
      run('--no-vacuum', `--client=${clients}`, `--time=${seconds}`, ...(perSecond > 0 ? [`--rate=${perSecond}`] : [])),
  }
}

/**
 * A port of pgbench's built-in TPC-B-like script and of its tables, for machines without the program.
 * https://www.postgresql.org/docs/current/pgbench.html
 */
export const tpcbPort = (pool: Pool, url: string, random: RandomSource): Tpcb => {
  const transaction = async (client: Client, own: RandomSource): Promise<void> => {
    const [aid, tid, bid, delta] = [own.int(1, 100_000), own.int(1, 10), 1, own.int(-5_000, 5_000)]
    await client.query('BEGIN')
    await client.query('UPDATE pgbench_accounts SET abalance = abalance + $1 WHERE aid = $2', [delta, aid])
    await client.query('SELECT abalance FROM pgbench_accounts WHERE aid = $1', [aid])
    await client.query('UPDATE pgbench_tellers SET tbalance = tbalance + $1 WHERE tid = $2', [delta, tid])
    await client.query('UPDATE pgbench_branches SET bbalance = bbalance + $1 WHERE bid = $2', [delta, bid])
    await client.query(
      'INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES ($1, $2, $3, $4, CURRENT_TIMESTAMP)',
      [tid, bid, aid, delta],
    )
    await client.query('END')
  }
  return {
    name: 'a port of pgbench',
    async prepare() {
      await pool.query(`
        CREATE TABLE pgbench_branches (bid int PRIMARY KEY, bbalance int, filler char(88));
        CREATE TABLE pgbench_tellers (tid int PRIMARY KEY, bid int, tbalance int, filler char(84));
        CREATE TABLE pgbench_accounts (aid int PRIMARY KEY, bid int, abalance int, filler char(84));
        CREATE TABLE pgbench_history (tid int, bid int, aid int, delta int, mtime timestamp, filler char(22));
        INSERT INTO pgbench_branches VALUES (1, 0);
        INSERT INTO pgbench_tellers SELECT n, 1, 0 FROM generate_series(1, 10) n;
        INSERT INTO pgbench_accounts SELECT n, 1, 0, '' FROM generate_series(1, 100000) n`)
    },
    async run(seconds, perSecond) {
      await pool.query('TRUNCATE pgbench_history') // as the program does before it begins
      const until = performance.now() + seconds * 1_000
      const everyMs = perSecond > 0 ? (1_000 * clients) / perSecond : 0
      const work = async (_: unknown, number: number): Promise<void> => {
        const client = new Client({ connectionString: url, application_name: 'pgbench' })
        await client.connect()
        const own = random.fork(`client ${number}`)
        for (let due = performance.now(); performance.now() < until; due += everyMs) {
          await delay(Math.max(0, due - performance.now()))
          await transaction(client, own)
        }
        await client.end()
      }
      await Promise.all(Array.from({ length: clients }, work))
    },
  }
}
