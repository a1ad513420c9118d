import { describe, expect, it } from 'vitest'
import { ksuid } from '../../src/adapter/index.ts'

describe('ksuid', () => {
  it('is 27 characters of base 62, and never the same', () => {
    const many = Array.from({ length: 2_000 }, () => ksuid())
    expect(new Set(many).size).toBe(many.length)
    for (const id of many) expect(id).toMatch(/^[0-9A-Za-z]{27}$/)
  })

  // From the README of segmentio/ksuid: its time, payload and text.
  it('is written as other implementations write it', () => {
    const payload = Buffer.from('B5A1CD34B5F99D1154FB6853345C9735', 'hex')
    const id = ksuid({ now: () => (107_608_047 + 1_400_000_000) * 1_000, random: () => payload })
    expect(id).toBe('0ujtsYcgvSTl8PAuAdqWYSMnLOv')
  })

  it('covers the whole range with leading zeros and the largest value', () => {
    expect(ksuid({ now: () => 1_400_000_000_000, random: () => new Uint8Array(16) })).toBe('0'.repeat(27))
    const largest = ksuid({
      now: () => (1_400_000_000 + 0xffffffff) * 1_000,
      random: () => new Uint8Array(16).fill(255),
    })
    expect(largest).toBe('aWgEPTl1tmebfsQzFP4bxwgy80V')
  })

  it('sorts by the second', () => {
    const earlier = ksuid({ now: () => 1_700_000_000_000 })
    const later = ksuid({ now: () => 1_700_000_001_000 })
    expect(earlier < later).toBe(true)
  })
})
