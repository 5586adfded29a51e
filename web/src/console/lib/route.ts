// The part of the address after # says which page is shown: #/streams/live/movie?from=1.

/** A parsed address. */
export interface Route {
  path: readonly string[] // decoded segments
  query: URLSearchParams
}

/** Parses the hash of an address. A segment that is not valid stays as it is. */
export function parseHash(hash: string): Route {
  const [path = '', query = ''] = hash.replace(/^#\/?/, '').split('?', 2)
  const decode = (s: string) => {
    try {
      return decodeURIComponent(s)
    } catch {
      return s
    }
  }
  return { path: path.split('/').filter(Boolean).map(decode), query: new URLSearchParams(query) }
}

/** Returns the hash of a page: hashOf('streams', 'live', 'movie'). */
export function hashOf(...path: readonly string[]): string {
  return `#/${path.map(encodeURIComponent).join('/')}`
}
