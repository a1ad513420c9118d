import type { TableNames } from './names.ts'
import { grantStatements } from './statements/grants.ts'
import { handOffStatements } from './statements/hand-off.ts'
import { lineStatements } from './statements/line.ts'
import { operatorStatements } from './statements/operators.ts'
import { releaseStatements } from './statements/releases.ts'
import { renewalStatements } from './statements/renewals.ts'
import { timelineStatements } from './statements/timeline.ts'

export type TableStatements = Readonly<
  ReturnType<typeof grantStatements> &
    ReturnType<typeof releaseStatements> &
    ReturnType<typeof renewalStatements> &
    ReturnType<typeof handOffStatements> &
    ReturnType<typeof lineStatements> &
    ReturnType<typeof timelineStatements> &
    ReturnType<typeof operatorStatements>
>

/** All that the package says to the server, for one table. */
export const tableStatements = (n: TableNames): TableStatements => ({
  ...grantStatements(n),
  ...releaseStatements(n),
  ...renewalStatements(n),
  ...handOffStatements(n),
  ...lineStatements(n),
  ...timelineStatements(n),
  ...operatorStatements(n),
})
