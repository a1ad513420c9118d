import type { Policy } from '@x/lock-core'

/**
 * A policy may give up on a statement with which the server goes on, or send it a second time. Calls `giveBack` with the
 * result of each attempt that is not the one which the policy passed on.
 */
export async function underPolicy<T>(
  policy: Policy,
  send: () => Promise<T>,
  giveBack: (unheard: T) => void,
): Promise<T> {
  const execution: Promise<T> = (async () =>
    policy.execute(() => {
      const attempt = send()
      attempt.then(
        async (result) => {
          const heard = await execution.catch(() => null)
          if (result !== heard) giveBack(result)
        },
        () => {},
      )
      return attempt
    }))()
  return execution
}
