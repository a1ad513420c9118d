/**
 * Preloaded into every process that `spawnNode` starts: file descriptor 3 is a pipe whose other end only the parent
 * has. When it closes, the parent is gone for whatever reason, and so is this process.
 */
import { Socket } from 'node:net'

const lifeline = new Socket({ fd: 3, readable: true, writable: false })
lifeline.on('close', () => process.kill(process.pid, 'SIGKILL'))
lifeline.on('error', () => {})
lifeline.resume()
lifeline.unref()
