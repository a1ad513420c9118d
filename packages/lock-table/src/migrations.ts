export { adopt } from './adopt.ts'
export { migrate } from './schema.ts'
