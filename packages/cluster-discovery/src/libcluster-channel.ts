/** What PostgreSQL keeps of an identifier; LISTEN and NOTIFY cut longer ones silently. */
const longestChannelBytes = 63

/**
 * The channel of nodes that are configured with a cookie only: each byte that is no letter, digit or underscore becomes an
 * underscore. Bytes, not characters: the original replaces with a regular expression that does not know of UTF-8.
 */
export function channelOfCookie(cookie: string): string {
  return cutChannel(Buffer.from(cookie).toString('latin1').replaceAll(/\W/g, '_'))
}

/** The channel that the server makes of this name: 63 bytes, never half a character. */
export function cutChannel(name: string): string {
  const bytes = Buffer.from(name)
  if (bytes.length <= longestChannelBytes) return name
  let end = longestChannelBytes
  while (end > 0 && ((bytes[end] ?? 0) & 0xc0) === 0x80) end -= 1
  return bytes.subarray(0, end).toString()
}

/** An Erlang node name, `name@host`; the runtime takes at most 255 characters. Anything else on the channel is foreign. */
export function isNodeName(payload: string): boolean {
  return payload.length <= 255 && /^[^\s@\p{Cc}]+@[^\s@\p{Cc}]+$/u.test(payload)
}
