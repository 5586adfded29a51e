// The rules for names and URLs that a form checks before it sends them. The server checks them again.

/** Reports whether a text can be the name of a room. */
export function isRoom(text: string): boolean {
  return /^[A-Za-z0-9._-]{1,128}$/.test(text) && !text.startsWith('.') && !text.endsWith('.')
}

/** Reports whether a text can be the URL of a relay. */
export function isRelayURL(text: string, direction: 'push' | 'pull'): boolean {
  const schemes = direction === 'push' ? ['rtmp:', 'rtmps:'] : ['rtmp:', 'rtmps:', 'http:', 'https:']
  const url = URL.parse(text)
  if (!url || !schemes.includes(url.protocol) || url.hostname === '') return false
  const parts = url.pathname.split('/').filter(Boolean).length
  return parts >= (url.protocol.startsWith('rtmp') ? 2 : 1)
}

/** Reports whether a text is a duration of the server: 90s, 1h30m. */
export function isDuration(text: string): boolean {
  return /^(\d+(\.\d+)?(ms|s|m|h))+$/.test(text)
}
