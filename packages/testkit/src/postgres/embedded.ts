import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { findBinaries } from './binaries.ts'
import { type KeeperReply, type KeeperRequest, keeperReply } from './keeper-protocol.ts'
import type { StopMode } from './postmaster.ts'
import { baseSettings, fastSettings, type ServerSettings } from './settings.ts'
import type { PostgresMajor } from './version.ts'

export interface EmbeddedOptions {
  readonly major: PostgresMajor
  readonly settings: ServerSettings
  readonly durable: boolean
  /** A server of ours that this one follows as a hot standby. */
  readonly standbyOf?: { readonly url: string; readonly directory: string } | undefined
}

/** A server of our own, that can be crashed and started again at the same address. */
export interface EmbeddedServer {
  readonly url: string
  readonly port: number
  readonly directory: string
  /** The keeper's process; `kill` of it by hand ends a server that was kept. */
  readonly keeperPid: number
  /** Stops the server and starts it again on the same port with the same data. */
  restart(mode: StopMode): Promise<void>
  /** Stops the server only; `resume` starts it. */
  halt(mode: StopMode): Promise<void>
  resume(): Promise<void>
  /** Lets the server outlive this process, to look into it. */
  keep(): Promise<void>
  /** Stops the server and removes everything. Idempotent. */
  close(): Promise<void>
}

type Body = KeeperRequest extends infer R ? (R extends KeeperRequest ? Omit<R, 'id'> : never) : never

const keeperFile = fileURLToPath(new URL('./keeper.ts', import.meta.url))

interface Pending {
  resolve(reply: KeeperReply): void
  reject(error: Error): void
}

/** Requests to one keeper, answered by id; all of them fail when it exits. */
const connectKeeper = (keeper: ChildProcess): ((body: Body) => Promise<KeeperReply>) => {
  const waiting = new Map<number, Pending>()
  let lastId = 0
  let stderr = ''
  keeper.stderr?.on('data', (chunk) => {
    stderr += String(chunk)
  })
  // By the channel alone it would not do: a keeper that dies closes it, and before its end is told the event loop would be empty.
  // A run of tests would be over then, without any and without an error.
  const hold = (): void => {
    keeper.ref()
    keeper.channel?.ref()
  }
  const release = (): void => {
    keeper.unref()
    keeper.channel?.unref()
  }
  keeper.on('message', (message) => {
    const reply = keeperReply.parse(message)
    const entry = waiting.get(reply.id)
    waiting.delete(reply.id)
    if (reply.error === undefined) entry?.resolve(reply)
    else entry?.reject(new Error(reply.error))
    if (waiting.size === 0) release()
  })
  keeper.once('exit', (code, signal) => {
    for (const entry of waiting.values()) {
      entry.reject(new Error(`the keeper of the PostgreSQL server ended (${signal ?? code}) ${stderr}`))
    }
    waiting.clear()
  })
  return (body) =>
    new Promise((resolve, reject) => {
      lastId += 1
      waiting.set(lastId, { resolve, reject })
      hold()
      keeper.send({ ...body, id: lastId }, (error) => {
        if (error) reject(error)
      })
    })
}

/** Starts PostgreSQL from binaries in a temporary directory on a free loopback port. */
export const startEmbedded = async (options: EmbeddedOptions): Promise<EmbeddedServer> => {
  const { major, settings, durable, standbyOf } = options
  const root = findBinaries(major)
  const keeper = fork(keeperFile, [], {
    detached: true,
    execArgv: ['--disable-warning=ExperimentalWarning'],
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    env: { PATH: process.env.PATH, TMPDIR: process.env.TMPDIR },
  })
  const request = connectKeeper(keeper)
  // The run's event loop must be able to end: nothing of the keeper holds it but a request under way.
  if (keeper.stderr && 'unref' in keeper.stderr && typeof keeper.stderr.unref === 'function') keeper.stderr.unref()
  const { server } = await request({
    type: 'start',
    root,
    ...(standbyOf ? { standbyOf } : {}),
    settings: { ...baseSettings, ...(durable ? {} : fastSettings), ...settings },
  }).catch((error: unknown) => {
    keeper.kill('SIGTERM')
    throw error
  })
  if (!server || keeper.pid === undefined) throw new Error('the keeper answered without a server')
  const { url, port, directory } = server
  let closed: Promise<void> | null = null
  const halt = async (mode: StopMode): Promise<void> => void (await request({ type: 'stop', mode }))
  const resume = async (): Promise<void> => void (await request({ type: 'resume' }))
  return {
    url,
    port,
    directory,
    keeperPid: keeper.pid,
    halt,
    resume,
    async restart(mode) {
      await halt(mode)
      await resume()
    },
    keep: async () => void (await request({ type: 'keep' })),
    close() {
      closed ??= (async () => {
        if (keeper.exitCode !== null || keeper.signalCode !== null) return
        const exited = once(keeper, 'exit')
        await request({ type: 'close' })
        keeper.ref()
        await exited
      })()
      return closed
    },
  }
}
