import { z } from 'zod'
import type { Logger, Policy } from '../observability.ts'

/** The options of `ObservabilityOptions`, for the schema of a factory. What lacks a method would fail when it is called. */
export const observabilityOptions: {
  readonly logger: z.ZodOptional<z.ZodType<Logger>>
  readonly policy: z.ZodOptional<z.ZodType<Policy>>
} = /* @__PURE__ */ (() => ({
  logger: having<Logger>('debug', 'info', 'warn', 'error').optional(),
  policy: having<Policy>('execute').optional(),
}))()

function having<T extends object>(...methods: readonly (keyof T & string)[]): z.ZodType<T> {
  const fits = (value: unknown): boolean =>
    ((typeof value === 'object' && value !== null) || typeof value === 'function') &&
    methods.every((method) => typeof Reflect.get(value, method) === 'function')
  return z.custom<T>(fits, `expected an object with ${methods.map((method) => `${method}()`).join(', ')}`)
}
