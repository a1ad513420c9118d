export { migrate } from './schema.ts'
