import { Logger, run, runMigrations } from 'graphile-worker'
import { Pool } from 'pg'
import { PgBoss } from 'pg-boss'
import type { Contender } from '../benchmark.ts'
import { contender } from '../contender.ts'
import { throughput } from '../measure.ts'

const atOnce = 10_000

/** Numbers from 1 on, in pieces. */
const pieces = (jobs: number): number[][] =>
  Array.from({ length: Math.ceil(jobs / atOnce) }, (_, piece) =>
    Array.from({ length: Math.min(atOnce, jobs - piece * atOnce) }, (_, i) => piece * atOnce + i + 1),
  )

/** `pg-boss`: one consumer that fetches a thousand jobs and completes them, over and over. */
export const pgBossConsuming = (jobs: number): Contender =>
  contender({
    async open({ url }) {
      const boss = new PgBoss({ connectionString: url, supervise: false, schedule: false })
      await boss.start()
      await boss.createQueue('events')
      return boss
    },
    async round(boss) {
      await boss.deleteAllJobs('events')
      for (const piece of pieces(jobs)) {
        await boss.insert(
          'events',
          piece.map((id) => ({ data: { id, name: `thing ${id}`, price: id } })),
        )
      }
      return throughput(jobs, async () => {
        for (let seen = 0; seen < jobs; ) {
          const batch = await boss.fetch('events', { batchSize: 1_000 })
          await boss.complete(
            'events',
            batch.map(({ id }) => id),
          )
          seen += batch.length
        }
      })
    },
    async close(boss) {
      await boss.stop({ graceful: false })
    },
  })

/** It tells of each job otherwise, which takes most of the time. */
const silence = new Logger(() => () => {})
const workers = 24

/** `graphile-worker`: a local queue of a thousand jobs, 24 of them at work, completed in batches. */
export const graphileWorkerConsuming = (jobs: number): Contender =>
  contender({
    async open({ url }) {
      await runMigrations({ connectionString: url, logger: silence })
      const pool = new Pool({ connectionString: url, max: workers + 2 })
      pool.on('error', () => {})
      pool.on('connect', (client) => client.on('error', () => {}))
      return pool
    },
    async round(pool) {
      for (const piece of pieces(jobs)) {
        await pool.query(
          `SELECT graphile_worker.add_jobs(ARRAY(
             SELECT json_populate_record(NULL::graphile_worker.job_spec,
                      json_build_object('identifier', 'event', 'payload', json_build_object('id', n, 'name', 'thing ' || n, 'price', n)))
               FROM unnest($1::int[]) n))`,
          [piece],
        )
      }
      return throughput(jobs, async () => {
        const done = Promise.withResolvers<void>()
        let seen = 0
        const runner = await run({
          pgPool: pool,
          logger: silence,
          noHandleSignals: true,
          taskList: {
            event: () => {
              seen += 1
              if (seen === jobs) done.resolve()
            },
          },
          preset: {
            worker: {
              concurrentJobs: workers,
              pollInterval: 100,
              localQueue: { size: 1_000 },
              completeJobBatchDelay: 1,
              failJobBatchDelay: 1,
            },
          },
        })
        await done.promise
        // Not before what was handled is completed.
        await runner.stop()
      })
    },
    close: (pool) => pool.end(),
  })
