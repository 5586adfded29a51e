// Plays HLS by the browser itself: Safari, and all browsers on iPhones.
import { buffered, codeHeader, type Engine, reasonOfStatus, type Reports } from './engine.ts'
import { type Reason, unreachable } from './machine.ts'

/** Starts an engine for the playlist at url. */
export function start(video: HTMLVideoElement, url: string, reports: Reports): Engine {
  const events = new AbortController()
  const { signal } = events
  video.addEventListener('ended', () => reports.ended('offline'), { signal })
  video.addEventListener('error', () => {
    // A stream that did play has changed, or has lost its server.
    const unplayable = video.played.length > 0 ? 'again' : 'unplayable'
    if (video.error?.code === MediaError.MEDIA_ERR_DECODE) reports.ended(unplayable)
    else void ask(unplayable)
  }, { signal })
  // A media element does not tell the HTTP status, so the playlist is requested once more.
  async function ask(unplayable: Reason) {
    try {
      const { ok, status, headers } = await fetch(url, { signal })
      reports.ended(ok ? unplayable : reasonOfStatus(status), headers.get(codeHeader) ?? '')
    } catch {
      reports.ended('network', unreachable)
    }
  }
  video.src = url
  return {
    destroy() {
      events.abort()
      video.removeAttribute('src')
      video.load()
    },
    latency: () => buffered(video),
    received: () => undefined,
    codecs: () => '',
  }
}
