// What all engines share. An engine plays a stream by one protocol, once: it never retries.
import { type Reason, unreachable } from './machine.ts'

/** What an engine reports while it plays. */
export interface Reports {
  /** The connection works, but no media arrives. */
  silent(): void
  /**
   * Playing has ended or did not start. Only the first call counts. The detail is the code of a refusal, or the codecs
   * that the browser cannot play.
   */
  ended(reason: Reason, detail?: string): void
}

/** An attempt to play. */
export interface Engine {
  /** Ends the attempt and releases the video element. */
  destroy(): void
  /** Returns how far the picture is behind the newest media, in s, or undefined while that is unknown. */
  latency(): number | undefined
  /** Returns the bytes of media received, or undefined where the browser does not tell. */
  received(): number | undefined
  /** Returns the codecs of the stream as in RFC 6381, or "" while they are unknown. */
  codecs(): string
}

/**
 * Starts to play url in video. An element may load an engine of a newer server, so this type and Reports keep what they
 * have, and an element checks for what was added later.
 */
export type StartEngine = (video: HTMLVideoElement, url: string, reports: Reports) => Engine

/** Returns why a request with this HTTP status has failed. 0 is a request without a response. */
export function reasonOfStatus(status: number): Reason {
  switch (status) {
    case 401:
    case 403:
      return 'refused'
    case 404:
      return 'offline'
    case 429:
      return 'full'
    default:
      return 'network'
  }
}

/**
 * Returns why the handshake of a WebSocket has failed, which browsers do not report. A response to HTTP at the same
 * address says that the server works: then it serves no WebSockets there, or a proxy before it does not pass them on.
 */
export async function reasonOfHandshake(url: string): Promise<[Reason, string]> {
  try {
    const address = url.replace(/^ws/, 'http')
    const { status } = await fetch(address, { method: 'HEAD', cache: 'no-store', credentials: 'omit' })
    return [status < 500 && status !== 429 ? 'unsupported' : 'network', '']
  } catch {
    return ['network', unreachable]
  }
}

/** The header of a response with the code of a refusal. */
export const codeHeader = 'Livego-Error'

/** Returns why the server has closed a WebSocket. The codes are those in docs/watching.md. */
export function reasonOfClose(code: number): Reason {
  switch (code) {
    case 1000:
      return 'offline'
    case 1008: // an operator has disconnected the viewer
      return 'refused'
    case 1012:
      return 'again'
    default:
      return code > 4000 && code < 5000 ? reasonOfStatus(code - 4000) : 'network'
  }
}

/** Returns the code of a refusal in a close frame: that of the operator for 1008, else what precedes the reason. */
export function codeOfClose(code: number, reason: string): string {
  return code === 1008 ? 'session_ended' : (/^(\w+): /.exec(reason)?.[1] ?? '')
}

const codecNames: readonly [RegExp, string][] = [
  [/^avc[13]/, 'H.264'], [/^(hvc1|hev1)/, 'HEVC'], [/^av01/, 'AV1'], [/^vp09/, 'VP9'], [/^vp08/, 'VP8'],
  [/^mp4a\.(40\.34|6b|69)/i, 'MP3'], [/^mp3$/, 'MP3'], [/^mp4a/, 'AAC'], [/^opus$/i, 'Opus'], [/^flac$/i, 'FLAC'],
  [/^ac-3$/, 'AC-3'], [/^ec-3$/, 'E-AC-3'],
]

const listOf = (codecs: string) => codecs.split(',').map((c) => c.trim()).filter(Boolean)

/** Returns the names of codecs that are given as in RFC 6381: "H.264, AAC" for "avc1.64001f,mp4a.40.2". */
export function namesOfCodecs(codecs: string): string {
  return listOf(codecs).map((c) => codecNames.find(([pattern]) => pattern.test(c))?.[1] ?? c).join(', ')
}

/** Returns the names of those codecs of a stream that the browser cannot play, or "" if it can play all. */
export function unplayableOf(codecs: string, playable: (type: string) => boolean): string {
  return namesOfCodecs(listOf(codecs).filter((c) => !playable(`video/mp4; codecs="${c}"`)).join(','))
}

/** Returns whether the browser plays media of this type by Media Source Extensions. */
export function playableByMSE(type: string): boolean {
  const source = window.MediaSource ?? (window as { ManagedMediaSource?: typeof MediaSource }).ManagedMediaSource
  return source?.isTypeSupported(type) ?? false
}

// So many stalls within this time, in ms, are no accident.
const manyStalls = 3
const within = 30_000

/** Knows whether playback stalls again and again: media arrives more slowly than it plays. */
export class Stalls {
  #latest: number[] = [] // when the latest ones began

  /** Counts a stall that began at the time now, in ms. */
  add(now: number): void {
    this.#latest = [...this.#latest, now].slice(-manyStalls)
  }

  /** Forgets the last stall. */
  drop(): void {
    this.#latest = this.#latest.slice(0, -1)
  }

  /** Returns whether there were many stalls lately. */
  many(now: number): boolean {
    const [first] = this.#latest
    return this.#latest.length === manyStalls && first !== undefined && now - first < within
  }
}

/** Returns the seconds of media that are buffered after the current time of a video. */
export function buffered(video: HTMLMediaElement): number | undefined {
  const ranges = video.buffered
  return ranges.length > 0 ? Math.max(0, ranges.end(ranges.length - 1) - video.currentTime) : undefined
}
