import { expect, it } from 'vitest'
import { Contact } from '../../src/contact.ts'

it('lasts as long as answers come without a gap', () => {
  const contact = new Contact(1_000)
  expect(contact.lengthMs(0)).toBe(0)
  for (let now = 0; now <= 5_000; now += 900) contact.answered(now, now)
  expect(contact.lengthMs(5_000)).toBe(5_000)
  expect(contact.isUnbroken(5_400)).toBe(true)
  expect(contact.isUnbroken(5_501)).toBe(false)
  expect(contact.lengthMs(5_501)).toBe(0)
})

it('begins anew after a pause, a failure, or a lost connection', () => {
  const contact = new Contact(1_000)
  contact.answered(0, 0)
  contact.answered(1_500, 1_500)
  expect(contact.lengthMs(1_500)).toBe(0)
  contact.answered(2_000, 2_000)
  contact.broke()
  expect(contact.isUnbroken(2_000)).toBe(false)
  contact.answered(2_100, 2_100)
  expect(contact.lengthMs(2_300)).toBe(200)
})

it('remembers how slow answers were, for a while', () => {
  const contact = new Contact(1_000)
  contact.answered(0, 50)
  contact.answered(100, 101)
  expect(contact.roundTripMs).toBe(40)
  for (let now = 200; now < 3_000; now += 100) contact.answered(now, now + 2)
  expect(contact.roundTripMs).toBe(2)
})
