// Plays HLS by hls.js, with low latency where the stream has parts.
import Hls, { type LevelDetails } from 'hls.js'
import { buffered, codeHeader, type Engine, playableByMSE, reasonOfStatus, type Reports, Stalls, unplayableOf }
  from './engine.ts'
import { unreachable } from './machine.ts'

// How late a player seeks, in s behind the target latency: others play faster. A seek to where nothing is buffered
// shows no picture until media is loaded, so on a slow network such seeks are rare, and the delay grows.
const farBehind = 2 // if the media is buffered
const tooFarBehind = 10 // otherwise: by default, the playlist soon has the media no more
const playable = 0.2 // s that must be buffered there
const silentAfter = 1.5 // s without a new part: the server waits for a publisher

/** Starts an engine for the playlist at url. */
export function start(video: HTMLVideoElement, url: string, reports: Reports): Engine {
  const hls = new Hls({ enableWorker: false, maxLiveSyncPlaybackRate: 1.5, liveSyncOnStallIncrease: 0 })
  const events = new AbortController()
  let received = 0
  let recovered = false
  let codecs = ''
  video.addEventListener('ended', () => reports.ended('offline'), { signal: events.signal })
  hls.on(Hls.Events.LEVEL_LOADED, (_, { details }) => {
    // what remains of a stream that has ended
    if (!details.live && video.played.length === 0) reports.ended('offline')
  })
  hls.on(Hls.Events.MANIFEST_LOADED, (_, { levels }) => {
    codecs = levels[0]?.attrs.CODECS ?? ''
  })
  hls.on(Hls.Events.FRAG_LOADED, (_, { frag, part }) => (received += (part ?? frag).stats.total))
  hls.on(Hls.Events.ERROR, (_, { fatal, type, details, response, networkDetails }) => {
    if (/codec/i.test(details)) {
      if (video.played.length > 0) reports.ended('again')
      else reports.ended('unplayable', unplayableOf(codecs, playableByMSE))
    } else if (!fatal) return
    else if (type !== Hls.ErrorTypes.MEDIA_ERROR) {
      const code = networkDetails instanceof XMLHttpRequest ? networkDetails.getResponseHeader(codeHeader) : null
      const status = response?.code ?? 0
      reports.ended(reasonOfStatus(status), code ?? (status === 0 ? unreachable : ''))
    } else if (recovered) reports.ended('again')
    else {
      recovered = true
      hls.recoverMediaError()
    }
  })
  // unloaded returns how much there is after the media that is buffered, in s.
  const unloaded = ({ edge }: LevelDetails) => edge - video.currentTime - (buffered(video) ?? 0)
  // On a network that is too slow for the stream, whole segments instead of parts are loaded, with fewer requests and
  // longer pieces of playback, until nearly all media that there is has been buffered.
  const stalls = new Stalls()
  video.addEventListener('waiting', () => {
    const details = hls.latestLevelDetails
    if (!details || video.seeking || unloaded(details) < playable / 2) return // or the publisher is lost
    stalls.add(performance.now())
    if (stalls.many(performance.now())) hls.lowLatencyMode = false
  }, { signal: events.signal })
  const timer = setInterval(() => {
    const details = hls.latestLevelDetails
    if (!details || video.played.length === 0) return
    const { live, age, targetduration, partTarget, edge, fragments } = details
    if (age > (hls.lowLatencyMode && partTarget ? silentAfter : 2 * targetduration)) reports.silent()
    const waits = video.readyState < HTMLMediaElement.HAVE_FUTURE_DATA
    // The library does not always load a last segment of which it has parts.
    if (!live && waits && edge - video.currentTime < targetduration) reports.ended('offline')
    const position = hls.liveSyncPosition
    if (position === null || hls.targetLatency === null || video.paused || video.seeking) return
    const ahead = buffered(video) ?? 0
    if (ahead > targetduration && unloaded(details) < 1.5 * targetduration) hls.lowLatencyMode = true
    const behind = Math.min(hls.latency - hls.targetLatency, position - video.currentTime)
    if (ahead > position - video.currentTime + playable) {
      if (behind > farBehind) video.currentTime = position
    } else if (behind > tooFarBehind) {
      video.currentTime = fragments.find(({ end }) => end > position)?.start ?? position
    }
  }, 1000)
  hls.loadSource(url)
  hls.attachMedia(video)
  return {
    destroy() {
      events.abort()
      clearInterval(timer)
      hls.destroy()
    },
    latency: () => hls.latency || undefined,
    received: () => received,
    codecs: () => codecs,
  }
}
