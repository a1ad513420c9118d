// The API contract, held by the compiler: whoever programs against test/fixtures/public-api.ts can use the packages.
// What a package gives must fit the contract's type, what a caller gives by the contract must fit the package's.
import type * as cluster from '@x/cluster-discovery'
import type * as clusterMigrations from '@x/cluster-discovery/migrations'
import type * as input from '@x/leader-input'
import type * as inputMigrations from '@x/leader-input/migrations'
import type * as advisory from '@x/lock-advisory'
import type * as advisoryMigrations from '@x/lock-advisory/migrations'
import type * as core from '@x/lock-core'
import type * as conformance from '@x/lock-core/conformance'
import type * as memory from '@x/lock-core/memory'
import type * as table from '@x/lock-table'
import type * as tableMigrations from '@x/lock-table/migrations'
import type { Generated } from 'kysely'
import type { Pool } from 'pg'
import type * as api from '../fixtures/public-api.ts'

declare const a: <T>() => T
declare const fits: <Expected>(value: Expected) => void

interface Shop {
  orders: { id: Generated<string>; total: number; placed_at: Date; paid: boolean | null }
  customers: { id: string; name: string }
}

// lock-core: what it gives
fits<api.Lock>(a<core.Lock>())
fits<api.LockStatus>(a<core.LockStatus>())
fits<api.LockSet>(a<core.LockSet>())
fits<api.Semaphore>(a<core.Semaphore>())
fits<api.LeaderElector>(a<core.LeaderElector>())
fits<api.LeaderTerm>(a<core.LeaderTerm>())
fits<api.LockLostReason>(a<core.LockLostReason>())
fits<api.DemotionReason>(a<core.DemotionReason>())
// lock-core: what it takes
fits<core.AcquireOptions>(a<api.AcquireOptions>())
fits<core.TryAcquireOptions>(a<api.TryAcquireOptions>())
fits<core.LeaderElectorOptions>(a<api.LeaderElectorOptions>())
fits<core.SemaphoreOptions>(a<api.SemaphoreOptions>())
fits<core.ObservabilityOptions>(a<api.ObservabilityOptions>())
fits<core.SqlExecutor>(a<api.SqlExecutor>())
fits<core.PgPool>(a<api.PgPool>())
fits<core.DirectConnection>(a<api.DirectConnection>())
// Adapters are written by others: a Locker goes both ways.
fits<api.Locker>(a<core.Locker>())
fits<core.Locker>(a<api.Locker>())
fits<conformance.ConformanceOptions>(a<api.ConformanceOptions>())
fits<typeof api.withLock>(a<typeof core.withLock>())
fits<typeof api.tryWithLock>(a<typeof core.tryWithLock>())
fits<typeof api.acquireMany>(a<typeof core.acquireMany>())
fits<typeof api.createSemaphore>(a<typeof core.createSemaphore>())
fits<typeof api.lockId>(a<typeof core.lockId>())
fits<typeof api.createLeaderElector>(a<typeof core.createLeaderElector>())
fits<typeof api.createMemoryLocker>(a<typeof memory.createMemoryLocker>())
fits<typeof api.lockerConformance>(a<typeof conformance.lockerConformance>())

// lock-table
fits<typeof api.createTableLocker>(a<typeof table.createTableLocker>())
fits<api.TableLocker>(a<table.TableLocker>())
fits<table.TableLockerOptions>(a<api.TableLockerOptions>())
fits<typeof api.checkFence>(a<typeof table.checkFence>())
fits<typeof api.migrate>(a<typeof tableMigrations.migrate>())
fits<typeof api.adopt>(a<typeof tableMigrations.adopt>())

// lock-advisory
fits<typeof api.createAdvisoryLocker>(a<typeof advisory.createAdvisoryLocker>())
fits<api.AdvisoryLocker>(a<advisory.AdvisoryLocker>())
fits<advisory.AdvisoryLockerOptions>(a<api.AdvisoryLockerOptions>())
fits<typeof api.acquireInTransaction>(a<typeof advisory.acquireInTransaction>())
fits<typeof api.tryAcquireInTransaction>(a<typeof advisory.tryAcquireInTransaction>())
fits<typeof api.checkFence>(a<typeof advisory.checkFence>())
fits<typeof api.migrate>(a<typeof advisoryMigrations.migrate>())

// cluster-discovery
fits<typeof api.createClusterDiscovery>(a<typeof cluster.createClusterDiscovery>())
fits<api.ClusterDiscovery>(a<cluster.ClusterDiscovery>())
fits<cluster.ClusterDiscoveryOptions>(a<api.ClusterDiscoveryOptions>())
fits<api.ClusterEvent>(a<cluster.ClusterEvent>())
fits<typeof api.rendezvous>(a<typeof cluster.rendezvous>())
fits<typeof api.createLibclusterDiscovery>(a<typeof cluster.createLibclusterDiscovery>())
fits<typeof api.migrate>(a<typeof clusterMigrations.migrate>())

// leader-input
fits<(options: api.LeaderInputOptions<Shop>) => api.LeaderInput<Shop>>(a<typeof input.createLeaderInput<Shop>>())
fits<api.LeaderInput<Shop>>(a<input.LeaderInput<Shop>>())
fits<input.LeaderInputOptions<Shop>>(a<api.LeaderInputOptions<Shop>>())
fits<api.ChangeEvent<Shop>>(a<input.ChangeEvent<Shop>>())
fits<api.Lag>(a<input.Lag>())
fits<api.InputHealth>(a<input.InputHealth>())
fits<typeof api.migrate>(a<typeof inputMigrations.migrate>())

// What people hand in is a pool of `pg`, which must fit without a cast; a pool as an executor must not.
fits<core.PgPool>(a<Pool>())
// @ts-expect-error a pool is not inside anyone's transaction
fits<core.SqlExecutor>(a<Pool>())
