import { containerEngineAnswers } from '../postgres/container.ts'

/** Databases that speak the protocol of Postgres and are not it. */
export type OtherDatabase = 'cockroachdb' | 'yugabytedb'

export interface OtherDatabaseServer extends AsyncDisposable {
  readonly url: string
}

const images: Readonly<
  Record<OtherDatabase, { image: string; command: string[]; port: number; log: RegExp; address: string }>
> = {
  cockroachdb: {
    image: 'cockroachdb/cockroach:latest',
    command: ['start-single-node', '--insecure'],
    port: 26_257,
    log: /CockroachDB node starting/,
    address: 'root@HOST/defaultdb',
  },
  yugabytedb: {
    image: 'yugabytedb/yugabyte:latest',
    command: ['bin/yugabyted', 'start', '--background=false'],
    port: 5_433,
    log: /Data placement constraint successfully verified|YugabyteDB Started/,
    address: 'yugabyte@HOST/yugabyte',
  },
}

/** Why such a database cannot be started here; null when it can. */
export const otherDatabaseMissing = async (): Promise<string | null> => {
  if (process.env.COORDINATION_OTHER_DATABASES !== '1') return 'COORDINATION_OTHER_DATABASES=1 runs it, in containers'
  return (await containerEngineAnswers()) ? null : 'no container engine answers'
}

/** Starts one in a container; ask `otherDatabaseMissing()` first. */
export const startOtherDatabase = async (name: OtherDatabase): Promise<OtherDatabaseServer> => {
  const { GenericContainer, Wait } = await import('testcontainers')
  const { image, command, port, log, address } = images[name]
  const container = await new GenericContainer(image)
    .withCommand(command)
    .withExposedPorts(port)
    .withWaitStrategy(Wait.forLogMessage(log))
    .withStartupTimeout(180_000)
    .start()
  const host = `${container.getHost()}:${container.getMappedPort(port)}`
  return {
    url: `postgres://${address.replace('HOST', host)}`,
    [Symbol.asyncDispose]: async () => void (await container.stop()),
  }
}
