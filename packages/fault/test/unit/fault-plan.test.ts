import { randomSource } from '@x/testkit'
import { expect, it } from 'vitest'
import { planFaults, replicaFaults, serverFaults } from '../../src/fault-plan.ts'

const options = {
  replicas: 4,
  lengthMs: 60_000,
  faults: [...replicaFaults, ...serverFaults],
  ttlMs: 1_000,
  everyMs: 300,
}
const plan = (seed: number) => planFaults({ ...options, random: randomSource(seed) })

it('draws the same plan for the same seed', () => {
  expect(plan(1)).toEqual(plan(1))
  expect(plan(1)).not.toEqual(plan(2))
})

it('draws every fault, for every replica, and none after the end', () => {
  const drawn = plan(3)
  expect(new Set(drawn.map(({ name }) => name)).size).toBe(options.faults.length)
  expect(new Set(drawn.map(({ replica }) => replica)).size).toBe(4)
  expect(Math.max(...drawn.map(({ atMs }) => atMs))).toBeLessThan(60_000)
})

it('makes faults clearly shorter or clearly longer than the ttl, and those of the server short', () => {
  for (const { name, forMs } of plan(4)) {
    expect(forMs <= 400 || forMs >= 1_300, `${name} for ${forMs} ms`).toBe(true)
    if (serverFaults.some((fault) => fault === name)) expect(forMs).toBeLessThanOrEqual(400)
  }
})
