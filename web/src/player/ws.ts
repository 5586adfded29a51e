// Plays FLV over WebSocket by mpegts.js.
import mpegts from 'mpegts.js'
import {
  buffered, codeOfClose, type Engine, playableByMSE, reasonOfClose, reasonOfHandshake, type Reports, unplayableOf,
} from './engine.ts'

const silentAfter = 1500 // ms without data on an open connection: the server waits for a publisher
const lostAfter = 40_000 // ms without data: twice the publish_hold by default, in which no data arrives either
const farBehind = 2.5 // s: a player that is later than this seeks, others play faster

mpegts.LoggingControl.enableAll = false

/** Starts an engine for the WebSocket-FLV at url. */
export function start(video: HTMLVideoElement, url: string, reports: Reports): Engine {
  let received = 0
  const player = mpegts.createPlayer({ type: 'flv', isLive: true, url }, {
    enableWorker: false, enableStashBuffer: false, autoCleanupSourceBuffer: true,
    liveSync: true, liveSyncTargetLatency: 0.5, liveSyncMaxLatency: 0.8, liveSyncPlaybackRate: 1.2,
    liveBufferLatencyChasing: true, liveBufferLatencyMaxLatency: farBehind, liveBufferLatencyMinRemain: 0.5,
    customLoader: socketLoader(video, reports, (bytes) => (received += bytes)),
  })
  const codecs = () => {
    const { videoCodec, audioCodec } = (player.mediaInfo ?? {}) as mpegts.MSEPlayerMediaInfo
    return [videoCodec, audioCodec].filter(Boolean).join(',')
  }
  player.on(mpegts.Events.ERROR, (type: string) => {
    if (type !== mpegts.ErrorTypes.MEDIA_ERROR) reports.ended('network')
    // A stream that did play has changed in a way that the library cannot follow.
    else if (video.played.length > 0) reports.ended('again')
    else reports.ended('unplayable', unplayableOf(codecs(), playableByMSE))
  })
  player.attachMediaElement(video)
  player.load()
  return {
    destroy: () => player.destroy(),
    latency: () => buffered(video),
    received: () => received,
    codecs,
  }
}

// socketLoader returns a class that receives data for mpegts.js. The class of mpegts.js hides the close code, which
// says why a stream has ended.
function socketLoader(
  video: HTMLVideoElement, reports: Reports, count: (bytes: number) => void,
): mpegts.CustomLoaderConstructor {
  return class extends mpegts.BaseLoader {
    #socket: WebSocket | undefined
    #timer = 0
    #received = 0

    constructor() {
      super('livego-websocket')
      this._needStash = true
    }

    override open({ url = '' }: mpegts.MediaSegment) {
      const socket = (this.#socket = new WebSocket(url))
      socket.binaryType = 'arraybuffer'
      this._status = mpegts.LoaderStatus.kConnecting
      socket.onopen = () => {
        this._status = mpegts.LoaderStatus.kBuffering
        this.#expect('offline')
      }
      socket.onmessage = ({ data }: MessageEvent<ArrayBuffer>) => {
        this.#expect('network')
        const start = this.#received
        this.#received += data.byteLength
        count(data.byteLength)
        this.onDataArrival(data, start, this.#received)
      }
      socket.onclose = ({ code, reason }) => {
        clearTimeout(this.#timer)
        const opened = this._status !== mpegts.LoaderStatus.kConnecting
        this._status = mpegts.LoaderStatus.kComplete
        if (opened) reports.ended(reasonOfClose(code), codeOfClose(code, reason))
        else void reasonOfHandshake(url).then(([why, detail]) => reports.ended(why, detail))
      }
    }

    override abort() {
      clearTimeout(this.#timer)
      if (this.#socket) {
        this.#socket.onopen = this.#socket.onmessage = this.#socket.onclose = null
        this.#socket.close()
      }
      this.#socket = undefined
      this._status = mpegts.LoaderStatus.kComplete
    }

    override destroy() {
      this.abort()
      super.destroy()
    }

    // expect reports a connection without data, and ends the attempt for this reason unless data arrives in time.
    #expect(reason: 'offline' | 'network') {
      clearTimeout(this.#timer)
      this.#timer = setTimeout(() => {
        // The server sends a small header as soon as there is a stream; what follows takes its time on a slow network.
        if (reason === 'offline' || video.played.length > 0) reports.silent()
        this.#timer = setTimeout(() => reports.ended(reason), lostAfter)
      }, silentAfter)
    }
  }
}
