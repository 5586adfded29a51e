// Plays HLS by hls.js, with low latency where the stream has parts.
import Hls from 'hls.js'
import { codeHeader, type Engine, playableByMSE, reasonOfStatus, type Reports, unplayableOf } from './engine.ts'

const farBehind = 2 // s behind the target latency: a player that is later than this seeks, others play faster

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
    else if (details.misses > 0 && video.played.length > 0) reports.silent()
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
      reports.ended(reasonOfStatus(response?.code ?? 0), code ?? '')
    } else if (recovered) reports.ended('again')
    else {
      recovered = true
      hls.recoverMediaError()
    }
  })
  const timer = setInterval(() => {
    const position = hls.liveSyncPosition
    if (position === null || hls.targetLatency === null || video.paused) return
    const behind = hls.latency - hls.targetLatency
    if (behind > farBehind && position - video.currentTime > farBehind) video.currentTime = position
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
