import { createMigrations } from '@x/pg-session'

/** The migrations of this package. */
export const migrations: ReturnType<typeof createMigrations> = /* @__PURE__ */ createMigrations({
  package: 'leader-input',
  migrations: ['0004_leader_input'],
})
