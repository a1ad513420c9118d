/** The PostgreSQL majors that the suite is run on. */
export const majors = [15, 16, 17, 18] as const
export type PostgresMajor = (typeof majors)[number]

export const newestMajor: PostgresMajor = 18

/**
 * The major that the environment variable `PG_VERSION` asks for.
 *
 * @default 18
 * @throws {Error} when it names a major that the suite does not know
 */
export const wantedMajor = (value: string | undefined = process.env.PG_VERSION): PostgresMajor => {
  if (value === undefined || value === '') return newestMajor
  const major = majors.find((candidate) => String(candidate) === value)
  if (major === undefined) {
    throw new Error(`PG_VERSION: expected one of ${majors.join(', ')}, got '${value}'`)
  }
  return major
}
