// What the address of the player page says.

/** The parameters of the player page. */
export interface Parameters {
  src: string // address of the stream
  room: string
  attributes: Record<string, string> // of the player
}

const off = (value: string | null) => value === '0' || value === 'false'
const on = (value: string | null) => value !== null && !off(value)
const isOf = (origins: readonly string[], reference: string, base: string) =>
  URL.canParse(reference, base) && origins.includes(new URL(reference, base).origin)

/**
 * Returns the parameters in the address of the page, /app/room with a query. embedder is the origin of the page that
 * embeds it, or "": a poster of another host than these two is ignored, as anybody can put one into a link.
 */
export function parametersOf(address: string, embedder: string): Parameters {
  const url = new URL(address)
  const query = url.searchParams
  const attributes: Record<string, string> = {}
  if (!off(query.get('autoplay'))) attributes.autoplay = ''
  if (on(query.get('muted'))) attributes.muted = ''
  if (!off(query.get('controls'))) attributes.controls = ''
  for (const name of ['token', 'protocol', 'lang']) {
    const value = query.get(name)
    if (value) attributes[name] = value
  }
  const poster = query.get('poster')
  if (poster === '0') attributes.poster = '' // none, not even the thumbnail
  else if (poster && isOf([url.origin, embedder], poster, address)) attributes.poster = poster
  return { src: url.origin + url.pathname, room: url.pathname.split('/').pop() ?? '', attributes }
}
