import { type Contender, NotAvailable } from '../benchmark.ts'

/** A peer that cannot be installed: it stands in the table with the reason in place of its figures. */
export const notOnRegistry = (name: string): Contender => ({
  open: () => Promise.reject(new NotAvailable(`the npm registry that was asked has no package ${name}`)),
})
