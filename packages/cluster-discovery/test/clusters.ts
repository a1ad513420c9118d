import { randomUUID } from 'node:crypto'
import type { DatabaseOfFile } from '@x/testkit/vitest'
import type { Pool } from 'pg'
import { afterEach, beforeAll } from 'vitest'
import { type ClusterDiscovery, type ClusterDiscoveryOptions, createClusterDiscovery } from '../src/index.ts'

/** The nodes of a test file. */
export interface Clusters {
  /** The pool of all nodes that are given no other. */
  readonly pool: Pool
  /** A node that has not joined yet; closed after the test. */
  create(cluster: string, id: string, more?: Partial<ClusterDiscoveryOptions>): ClusterDiscovery
  closeAll(): Promise<void>
}

/** Nodes on the file's database, at the file's pace. */
export const useClusters = (
  database: DatabaseOfFile,
  pace: Pick<ClusterDiscoveryOptions, 'heartbeatMs' | 'ttlMs'> & { readonly listens: boolean },
): Clusters => {
  const { listens, ...rhythm } = pace
  const open: ClusterDiscovery[] = []
  let pool: Pool | undefined
  beforeAll(() => {
    pool = database.pool({ max: 10 })
  })
  const itsPool = (): Pool => {
    if (pool === undefined) throw new Error('expected a test that runs; the pool is made before the first one')
    return pool
  }
  const closeAll = async (): Promise<void> => {
    await Promise.all(open.splice(0).map((each) => each.close()))
  }
  afterEach(closeAll)
  return {
    get pool() {
      return itsPool()
    },
    create(cluster, id, more) {
      const discovery = createClusterDiscovery({
        pool: itsPool(),
        cluster,
        ...(listens ? { connectionString: database.url } : { listen: false }),
        ...rhythm,
        node: { id, name: `name of ${id}` },
        ...more,
      })
      open.push(discovery)
      return discovery
    },
    closeAll,
  }
}

/** A name that must be quoted or hashed wherever it goes. */
export const newCluster = (): string => `cluster ${randomUUID()} – "quoted"; DROP TABLE nodes`

export const idsOf = (discovery: ClusterDiscovery): string[] =>
  discovery
    .nodes()
    .map((node) => node.id)
    .sort()
