import { createAdvisoryLocker } from './src/index.ts'
import { migrate } from './src/migrations.ts'
import pg from 'pg'
const url = process.argv[2]!
console.log('start')
const pool = new pg.Pool({ connectionString: url })
console.log(await migrate(pool)); await pool.end()
const l = createAdvisoryLocker({ connectionString: url, fencing: 'sequence' })
const a = await l.acquire('x'); console.log(a.fencingToken, await l.status('x')); await a.release()
const b = await l.acquire('x'); console.log(b.fencingToken)
await l.close()
