import { spawnSync } from 'node:child_process'

/**
 * Words to put before a command so that the kernel signals it when its parent dies, even of SIGKILL. Only on Linux
 * with util-linux's setpriv; elsewhere empty, and the caller needs a second way.
 */
export const deathSignalWrapper = (signal: 'QUIT' | 'KILL'): readonly string[] => {
  const wrapper = ['--pdeathsig', signal]
  return spawnSync('setpriv', [...wrapper, 'true']).status === 0 ? ['setpriv', ...wrapper] : []
}
