import { spawnNode, type TestProcess } from '@x/testkit'
import { type HostMessage, type HostSettings, hostMessage } from './protocol.ts'

export type Host = TestProcess<HostMessage>

/** How many processes share the nodes of a simulation. */
const processes = 4

/** Nodes spread over a few processes, all joined. */
export interface Hosts extends AsyncDisposable {
  readonly cluster: string
  readonly hosts: readonly Host[]
  record(): void
  /** Who was declared down, as far as anybody has heard. */
  downs(): ReadonlySet<string>
  /** When the last node of all processes has seen the change, in microseconds of the machine. */
  seen(change: 'join' | 'leave' | 'down', id: string, deadlineMs?: number): Promise<number>
}

type Program = 'ours' | 'broadcast' | 'floor'

const programs: Readonly<Record<Program, URL>> = {
  ours: new URL('./host.process.ts', import.meta.url),
  broadcast: new URL('./broadcast.process.ts', import.meta.url),
  floor: new URL('./floor.process.ts', import.meta.url),
}

/** One process more, joined. */
export const startHost = async (program: Program, settings: HostSettings): Promise<Host> => {
  const host = await spawnNode(programs[program], { messages: hostMessage, args: [JSON.stringify(settings)] })
  await host.message(({ kind }) => kind === 'joined', 120_000)
  return host
}

export const startHosts = async (
  program: Program,
  { url, cluster, nodes, listen }: { url: string; cluster: string; nodes: number; listen: boolean },
): Promise<Hosts> => {
  const shares = Array.from({ length: Math.min(processes, nodes) }, (_, index) =>
    Math.floor((nodes + index) / Math.min(processes, nodes)),
  )
  const hosts = await Promise.all(
    shares.map((share, index) =>
      startHost(program, {
        url,
        cluster,
        prefix: `host${index}`,
        nodes: share,
        listen,
        pool: Math.max(10, Math.ceil(share / 10)),
      }),
    ),
  )
  return {
    cluster,
    hosts,
    record() {
      for (const host of hosts) host.send({ do: 'record' })
    },
    downs() {
      return new Set(
        hosts.flatMap(({ messages }) => messages).flatMap((told) => (told.kind === 'down' ? [told.id] : [])),
      )
    },
    async seen(change, id, deadlineMs = 30_000) {
      const all = await Promise.all(
        hosts.map((host) =>
          host.message((told) => told.kind === 'seen' && told.change === change && told.id === id, deadlineMs),
        ),
      )
      return Math.max(...all.map((told) => (told.kind === 'seen' ? told.at : 0)))
    },
    async [Symbol.asyncDispose]() {
      for (const host of hosts) host.send({ do: 'close' })
      await Promise.all(hosts.map((host) => host.exited))
    },
  }
}
