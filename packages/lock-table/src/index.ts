export { checkFence } from '@x/pg-session'
export type { ListFilter } from './admin.ts'
export type { TableLockerOptions } from './options.ts'
export { createTableLocker, type TableLocker } from './table-locker.ts'
