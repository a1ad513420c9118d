import pc from 'picocolors'
import type { AuditReport } from './audit.ts'

const number = (value: number): string => value.toLocaleString('en-US')

/** The table at the end. */
export const renderAudit = ({ findings, passed }: AuditReport): string[] => {
  const lines = findings.flatMap(({ question, compared, violations, samples }) => {
    const fine = violations === 0 && compared > 0
    const mark = fine ? pc.green('ok  ') : pc.red('FAIL')
    const found = compared === 0 ? 'nothing to look at' : `${number(violations)} in ${number(compared)}`
    return [`  ${mark}  ${question.padEnd(78)}${found}`, ...samples.map((sample) => pc.red(`          ${sample}`))]
  })
  const verdict = passed ? pc.green('Nothing was lost, doubled, inverted or overlapped.') : pc.red('The audit failed.')
  return ['', '  The audit, in plain SQL:', ...lines, '', `  ${verdict}`, '']
}
