import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { expect, it } from 'vitest'
import { z } from 'zod'

const run = promisify(execFile)
const scenario = fileURLToPath(new URL('../support/pulled-cable.ts', import.meta.url))

/** Null when the system lets us have a network of our own. */
async function whyNot(): Promise<string | null> {
  try {
    await run('unshare', ['--net', 'ip', 'link', 'set', 'lo', 'up'])
    return null
  } catch (error) {
    return `needs a network namespace: root on Linux with CAP_SYS_ADMIN and CAP_NET_ADMIN, and the programs unshare (apt-get install util-linux) and ip (apt-get install iproute2); ${String(error).split('\n')[0]}`
  }
}

it('when every packet is lost, the holder gives up first, and the server frees its lock and its place in the queue within the documented time', async ({
  skip,
}) => {
  const reason = await whyNot()
  if (reason !== null) skip(reason)
  const detectMs = 2_000
  const { stdout } = await run('unshare', ['--net', process.execPath, scenario, String(detectMs)], { timeout: 180_000 })
  const told = z.object({ lostMs: z.number(), freedMs: z.number(), leftMs: z.number() }).parse(JSON.parse(stdout))
  expect(told.lostMs).toBeLessThan(told.freedMs)
  // As the README says, and some for a busy machine.
  const documentedMs = 2 * detectMs + 3_000
  expect(told.freedMs).toBeLessThan(documentedMs + 5_000)
  expect(told.leftMs).toBeLessThan(documentedMs + 5_000)
}, 240_000)
