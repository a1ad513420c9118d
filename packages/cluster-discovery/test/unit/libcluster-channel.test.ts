import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { channelOfCookie, cutChannel, isNodeName } from '../../src/libcluster-channel.ts'

describe('the channel of a cookie', () => {
  it.each([
    ['my-random-#123-long-cookie', 'my_random__123_long_cookie'],
    ['QWERTYUIOP', 'QWERTYUIOP'],
    ['4 digits', '4_digits'],
    ['näher', 'n__her'],
  ])('%s is %s', (cookie, channel) => expect(channelOfCookie(cookie)).toBe(channel))
})

describe('a name over 63 bytes', () => {
  it('is cut as the server cuts it, never within a character', () => {
    expect(cutChannel('x'.repeat(64))).toBe('x'.repeat(63))
    expect(cutChannel(`${'x'.repeat(62)}ä`)).toBe('x'.repeat(62))
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme', maxLength: 80 }), (name) => {
        const cut = cutChannel(name)
        expect(Buffer.byteLength(cut)).toBeLessThanOrEqual(63)
        expect(name.startsWith(cut)).toBe(true)
        expect(cutChannel(cut)).toBe(cut)
      }),
    )
  })
})

describe('a node name', () => {
  it.each(['web@10.0.0.1', 'shop-1@host.example', 'ä@b'])('%s is one', (name) => expect(isNodeName(name)).toBe(true))
  it.each(['', 'web', 'a@b@c', 'a b@c', '@host', 'name@', '{"v":1}', `a@${'h'.repeat(255)}`, 'a\n@b'])(
    '%j is none',
    (name) => expect(isNodeName(name)).toBe(false),
  )
})
