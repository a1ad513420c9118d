import { existsSync } from 'node:fs'
import { connect } from 'node:net'
import { baseSettings, fastSettings, type ServerSettings, settingArguments } from './settings.ts'
import type { PostgresMajor } from './version.ts'

const patienceMs = 1_000

/** Where the engine listens; the same two places that container tools look at first. */
const engineSocket = (): { path: string } | { host: string; port: number } | null => {
  const host = process.env.DOCKER_HOST
  if (host?.startsWith('unix://')) return { path: host.slice('unix://'.length) }
  if (host?.startsWith('tcp://')) {
    const url = new URL(host)
    return { host: url.hostname, port: Number(url.port || 2375) }
  }
  return existsSync('/var/run/docker.sock') ? { path: '/var/run/docker.sock' } : null
}

/** Whether a container engine answers within a second. */
export const containerEngineAnswers = (): Promise<boolean> => {
  const target = engineSocket()
  if (target === null) return Promise.resolve(false)
  return new Promise((resolve) => {
    const socket = connect(target)
    const settle = (answer: boolean): void => {
      socket.destroy()
      resolve(answer)
    }
    socket.setTimeout(patienceMs, () => settle(false))
    socket.once('error', () => settle(false))
    // One that hangs up without a word: no timeout comes any more.
    socket.once('close', () => settle(false))
    socket.once('connect', () => socket.write('GET /_ping HTTP/1.0\r\n\r\n'))
    socket.once('data', (data) => settle(String(data).includes('200 OK')))
  })
}

export interface ContainerServer {
  readonly url: string
  close(): Promise<void>
}

/** Starts the official image; its library's reaper removes it when this process ends. */
export const startContainer = async (options: {
  readonly major: PostgresMajor
  readonly settings: ServerSettings
  readonly durable: boolean
}): Promise<ContainerServer> => {
  // Loaded here only: the library takes most of a second, and most runs have no engine.
  const { PostgreSqlContainer } = await import('@testcontainers/postgresql')
  const settings: ServerSettings = {
    ...baseSettings,
    ...(options.durable ? {} : fastSettings),
    ...options.settings,
    // Inside the container: the engine publishes the port.
    listen_addresses: '*',
    unix_socket_directories: '/var/run/postgresql',
  }
  const container = await new PostgreSqlContainer(`postgres:${options.major}`)
    .withCommand(['postgres', ...settingArguments(settings)])
    // The 64 MB that an engine gives are soon used up by parallel queries.
    .withSharedMemorySize(256 * 1024 * 1024)
    .start()
  return { url: container.getConnectionUri(), close: async () => void (await container.stop()) }
}
