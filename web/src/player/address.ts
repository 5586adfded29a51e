// The addresses of a stream.
import { type Protocol, protocols } from './machine.ts'

const endings = { ws: '.flv', hls: '.m3u8', native: '.m3u8', jpg: '.jpg' } as const

/**
 * Returns the address at which a protocol plays the stream at src, https://host/app/room with or without a query, or
 * that of its thumbnail. A token that is not empty replaces the one in src. It returns "" if src is no address of HTTP,
 * such as localhost:7001/live/movie.
 */
export function addressOf(src: string, token: string, protocol: Protocol | 'jpg'): string {
  const url = new URL(src)
  if (url.protocol !== 'https:' && url.protocol !== 'http:') return ''
  url.hash = ''
  url.pathname = url.pathname.replace(/\/+$/, '') + endings[protocol]
  if (token) url.searchParams.set('token', token)
  if (protocol === 'ws') url.protocol = url.protocol.replace('http', 'ws')
  return url.href
}

/** Returns the protocols that a browser may use: wanted alone, if it is one of them. */
export function candidatesOf(wanted: string, mse: boolean, nativeHLS: boolean): Protocol[] {
  const usable = protocols.filter((p) => (p === 'native' ? nativeHLS : mse))
  return usable.some((p) => p === wanted) ? usable.filter((p) => p === wanted) : usable
}
