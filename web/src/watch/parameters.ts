// What the address of the player page says.

/** The parameters of the player page. */
export interface Parameters {
  src: string // address of the stream
  room: string
  attributes: Record<string, string> // of the player
}

const off = (value: string | null) => value === '0' || value === 'false'
const on = (value: string | null) => value !== null && !off(value)

/** Returns the parameters in the address of the page, /app/room with a query. */
export function parametersOf(address: string): Parameters {
  const url = new URL(address)
  const query = url.searchParams
  const attributes: Record<string, string> = {}
  if (!off(query.get('autoplay'))) attributes.autoplay = ''
  if (on(query.get('muted'))) attributes.muted = ''
  if (!off(query.get('controls'))) attributes.controls = ''
  for (const name of ['token', 'protocol', 'poster', 'lang']) {
    const value = query.get(name)
    if (value) attributes[name] = value
  }
  if (attributes.poster === '0') attributes.poster = '' // none, not even the thumbnail
  return { src: url.origin + url.pathname, room: url.pathname.split('/').pop() ?? '', attributes }
}
