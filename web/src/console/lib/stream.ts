// What pages show of a stream.
import type { components } from '../api/schema.ts'
import type { Address } from './session.svelte.ts'

export type Stream = components['schemas']['StreamInfo']
export type Track = components['schemas']['Track']

/** Returns how many viewers a stream has. */
export function viewersOf(stream: Pick<Stream, 'viewers'>): number {
  return Object.values(stream.viewers).reduce((sum, n) => sum + n, 0)
}

/** Returns the track of a kind that viewers get unless they choose. */
export function mainTrack(stream: Stream, kind: Track['kind']): Track | undefined {
  return stream.tracks?.find((t) => t.kind === kind && t.default) ?? stream.tracks?.find((t) => t.kind === kind)
}

const codecs: Record<string, string> = {
  h264: 'H.264', h265: 'H.265', av1: 'AV1', vp9: 'VP9', aac: 'AAC', mp3: 'MP3', opus: 'Opus', flac: 'FLAC', ac3: 'AC-3',
  eac3: 'E-AC-3',
}

/** Returns the name of a codec as people write it. */
export function codecName(codec: string): string {
  return codecs[codec] ?? codec
}

const protocols: Record<string, string> = {
  rtmp: 'RTMP', rtmps: 'RTMPS', flv: 'HTTP-FLV', ws: 'WebSocket-FLV', hls: 'HLS', push: 'push', pull: 'pull',
}

/** Returns the name of a protocol as people write it. */
export function protocolName(protocol: string): string {
  return protocols[protocol] ?? protocol
}

/** Returns the name of the protocol of an address, and whether it is over TLS. page is the name of a player page. */
export function addressName(address: Address, page = ''): string {
  const { protocol, url } = address
  const name = protocol === 'page' ? page : protocolName(url.startsWith('rtmps:') ? 'rtmps' : protocol)
  return /^(https|wss):/.test(url) ? `${name} (TLS)` : name
}
