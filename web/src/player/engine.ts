// What all engines share. An engine plays a stream by one protocol, once: it never retries.
import type { Reason } from './machine.ts'

/** What an engine reports while it plays. */
export interface Reports {
  /** The connection works, but no media has arrived. */
  silent(): void
  /** Playing has ended or did not start. Only the first call counts. */
  ended(reason: Reason): void
}

/** An attempt to play. */
export interface Engine {
  /** Ends the attempt and releases the video element. */
  destroy(): void
  /** Returns how far the picture is behind the newest media, in s, or undefined while that is unknown. */
  latency(): number | undefined
  /** Returns the bytes of media received, or undefined where the browser does not tell. */
  received(): number | undefined
}

/** Starts to play url in video. */
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

/** Returns the seconds of media that are buffered after the current time of a video. */
export function buffered(video: HTMLMediaElement): number | undefined {
  const ranges = video.buffered
  return ranges.length > 0 ? Math.max(0, ranges.end(ranges.length - 1) - video.currentTime) : undefined
}
