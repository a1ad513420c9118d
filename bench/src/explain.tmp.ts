import { spawnSync } from 'node:child_process'

spawnSync('bash', ['/tmp/is2/tests.sh'], { stdio: 'inherit' })
