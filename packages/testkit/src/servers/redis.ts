import { startProgram } from '../process/guarded-program.ts'
import { requireProgram } from './system-program.ts'

export interface RedisServer extends AsyncDisposable {
  readonly port: number
  readonly url: string
  /** Idempotent. */
  stop(): Promise<void>
}

/**
 * Starts Redis, which benchmarks compare with; without persistence unless told otherwise.
 *
 * @param settings lines of redis.conf by name
 * @throws {Error} when it is not installed; ask `findProgram('redis-server')` first
 */
export const startRedis = async (settings: Readonly<Record<string, string>> = {}): Promise<RedisServer> => {
  const lines = { save: '""', appendonly: 'no', ...settings }
  const { port, stop } = await startProgram({
    program: requireProgram('redis-server'),
    files: (free) => ({
      'redis.conf': [
        'bind 127.0.0.1',
        `port ${free}`,
        ...Object.entries(lines).map(([name, value]) => `${name} ${value}`),
        '',
      ].join('\n'),
    }),
    args: () => ['redis.conf'],
    ready: /Ready to accept connections/,
  })
  return { port, url: `redis://127.0.0.1:${port}`, stop, [Symbol.asyncDispose]: stop }
}
