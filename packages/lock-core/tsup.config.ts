import { library } from '../../scripts/tsup.ts'

export default library(['src/index.ts', 'src/adapter/index.ts', 'src/conformance/index.ts', 'src/memory/index.ts'])
