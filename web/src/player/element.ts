// <livego-player>: connects the state machine, the engines and the controls.
import { addressOf, candidatesOf } from './address.ts'
import { element, icon, type Icon } from './dom.ts'
import type { Engine, StartEngine } from './engine.ts'
import { type Action, type Event as MachineEvent, initial, next, type Phase, type Protocol, protocolOf, type Reason }
  from './machine.ts'
import { styles } from './style.ts'
import { type Language, languageOf, messageOf, type Text, textOf } from './text.ts'

const hideAfter = 3000 // ms without a movement of the pointer
const volumeStep = 0.1

const engines: Record<Protocol, () => Promise<{ start: StartEngine }>> = {
  ws: () => import('./ws.ts'),
  hls: () => import('./hls.ts'),
  native: () => import('./native.ts'),
}

/** What the event `statechange` tells, and the getter `state` returns. */
export interface PlayerState {
  phase: Phase
  reason?: Reason
  protocol?: Protocol
}

/** What is known about the picture on the screen. */
export interface PlayerStats {
  width: number // of the picture, in pixels; 0 for audio only
  height: number
  frames: number // shown or dropped since the attempt began
  dropped: number
  behind?: number // s of media received after the picture
  received?: number // bytes of media since the attempt began
}

/**
 * The element. Attributes: src (https://host/app/room), token, autoplay, muted, controls, poster, protocol (ws, hls or
 * native), lang (en or zh). Events: statechange, whose detail is a PlayerState, and volumechange.
 */
export class LivegoPlayer extends HTMLElement {
  static observedAttributes = ['src', 'token', 'controls', 'poster', 'protocol', 'lang']

  readonly #video = element('video', { playsinline: '', part: 'video' })
  readonly #still = element('canvas', { class: 'still', hidden: '' })
  readonly #poster = element('img', { class: 'poster', alt: '', hidden: '' })
  readonly #title = element('strong')
  readonly #more = element('span')
  readonly #spinner = element('div', { class: 'spinner' })
  readonly #message = element('div', { class: 'message', role: 'status' }, [this.#spinner, this.#title, this.#more])
  readonly #startIcon = element('span', {}, [icon('play')])
  readonly #start = this.#button('start', () => this.play(), this.#startIcon)
  readonly #unmute = this.#button('unmute', () => { this.muted = false })
  readonly #toggle = this.#button('toggle', () => this.#playOrPause())
  readonly #sound = this.#button('sound', () => { this.muted = !this.muted })
  readonly #volume = element('input', { type: 'range', min: '0', max: '1', step: '0.05' })
  readonly #live = element('span', { class: 'live' })
  readonly #showInfo = this.#button('show-info', () => this.#toggleInfo())
  readonly #pip = this.#button('pip', () => void this.#togglePictureInPicture())
  readonly #full = this.#button('full', () => void this.#toggleFullscreen())
  readonly #values = element('dl')
  readonly #switch = this.#button('language', () => this.#switchLanguage())
  readonly #info = element('div', { class: 'info', hidden: '' }, [this.#values, this.#switch])
  readonly #bar = element('div', { class: 'bar' }, [
    this.#toggle, this.#sound, this.#volume, this.#live, this.#showInfo, this.#pip, this.#full,
  ])

  #state = initial([])
  #engine: Engine | undefined
  #attempt = 0 // number of the latest attempt; reports of older ones are ignored
  #timer = 0 // of the action wait
  #infoTimer = 0
  #hideTimer = 0
  #mutedByBrowser = false
  #language: Language = 'en'
  #text: Text = textOf('en')
  #received = 0 // bytes at the last update of the information
  #events: AbortController | undefined

  constructor() {
    super()
    const root = this.attachShadow({ mode: 'open' })
    root.adoptedStyleSheets = [styles()]
    root.append(this.#video, this.#still, this.#poster, this.#message, this.#start, this.#unmute, this.#info, this.#bar)
    const video = this.#video
    const arrived = () => {
      this.#still.hidden = true
      this.#send({ type: 'playing' })
    }
    video.addEventListener('loadeddata', arrived)
    video.addEventListener('playing', arrived)
    video.addEventListener('waiting', () => this.#send({ type: 'stalled' }))
    video.addEventListener('resize', () => this.#render())
    video.addEventListener('volumechange', () => {
      if (!video.muted) this.#mutedByBrowser = false
      this.#render()
      this.dispatchEvent(new Event('volumechange'))
    })
    this.#volume.addEventListener('input', () => {
      this.volume = Number(this.#volume.value)
    })
    this.#poster.addEventListener('error', () => (this.#poster.hidden = true))
    video.addEventListener('click', () => this.#playOrPause())
    video.addEventListener('dblclick', () => void this.#toggleFullscreen())
  }

  connectedCallback() {
    if (!this.hasAttribute('tabindex')) this.tabIndex = 0
    this.#events = new AbortController()
    const { signal } = this.#events
    this.addEventListener('keydown', (e) => this.#key(e), { signal })
    for (const type of ['pointermove', 'pointerdown', 'focusin', 'keydown']) {
      this.addEventListener(type, () => this.#showControls(), { signal })
    }
    document.addEventListener('fullscreenchange', () => this.#render(), { signal })
    this.#video.muted = this.hasAttribute('muted')
    this.#setLanguage(languageOf([this.getAttribute('lang') ?? '', ...navigator.languages].filter(Boolean)))
    this.#setPoster()
    this.#reset()
    if (this.hasAttribute('autoplay')) this.play()
  }

  disconnectedCallback() {
    this.#events?.abort()
    clearTimeout(this.#hideTimer)
    clearInterval(this.#infoTimer)
    this.#info.hidden = true
    this.#send({ type: 'stop' })
  }

  attributeChangedCallback(name: string, before: string | null, value: string | null) {
    if (!this.isConnected || before === value) return
    if (name === 'lang') this.#setLanguage(languageOf([value ?? '', ...navigator.languages].filter(Boolean)))
    else if (name === 'poster') this.#setPoster()
    else if (name === 'controls') this.#render()
    else {
      const plays = this.#state.phase !== 'idle'
      this.#reset()
      if (plays || this.hasAttribute('autoplay')) this.play()
    }
  }

  /** Starts to play at the newest picture. */
  play(): void {
    this.#send({ type: 'start' })
  }

  /** Stops, and closes the connection. The last picture stays. */
  pause(): void {
    this.#send({ type: 'stop' })
  }

  /** Whether the sound is off. */
  get muted(): boolean {
    return this.#video.muted
  }

  set muted(muted: boolean) {
    this.#video.muted = muted
    if (!muted && this.#video.volume === 0) this.#video.volume = 1
  }

  /** The volume, 0 to 1. */
  get volume(): number {
    return this.#video.volume
  }

  set volume(volume: number) {
    if (!Number.isFinite(volume)) return
    this.#video.volume = Math.min(1, Math.max(0, volume))
    this.#video.muted = this.#video.volume === 0
  }

  /** What the player does at the moment. */
  get state(): PlayerState {
    const { phase, reason } = this.#state
    const protocol = protocolOf(this.#state)
    return { phase, ...(reason && { reason }), ...(protocol && { protocol }) }
  }

  /** What is known about the picture on the screen. */
  get stats(): PlayerStats {
    const { videoWidth: width, videoHeight: height } = this.#video
    const { totalVideoFrames: frames, droppedVideoFrames: dropped } = this.#video.getVideoPlaybackQuality()
    const behind = this.#engine?.latency()
    const received = this.#engine?.received()
    return {
      width, height, frames, dropped,
      ...(behind !== undefined && { behind }), ...(received !== undefined && { received }),
    }
  }

  // reset ends playing and finds out what this browser may use.
  #reset() {
    this.#send({ type: 'stop' })
    const mse = 'MediaSource' in window || 'ManagedMediaSource' in window
    const nativeHLS = this.#video.canPlayType('application/vnd.apple.mpegurl') !== ''
    this.#state = initial(candidatesOf(this.getAttribute('protocol') ?? '', mse, nativeHLS))
    this.#render()
  }

  #send(event: MachineEvent) {
    const before = this.#state
    const [state, actions] = next(before, event)
    this.#state = state
    for (const action of actions) this.#do(action)
    if (state !== before) {
      this.#render()
      this.dispatchEvent(new CustomEvent<PlayerState>('statechange', { detail: this.state }))
    }
  }

  #do(action: Action) {
    clearTimeout(this.#timer)
    this.#disconnect()
    if (action.type === 'connect') void this.#connect(action.protocol)
    else if (action.type === 'wait') this.#timer = setTimeout(() => this.#send({ type: 'timer' }), action.ms)
  }

  #disconnect() {
    this.#attempt++
    if (!this.#engine) return
    this.#keepPicture()
    this.#engine.destroy()
    this.#engine = undefined
  }

  async #connect(protocol: Protocol) {
    const attempt = this.#attempt
    const current = () => attempt === this.#attempt
    let url: string
    let start: StartEngine
    try {
      const src = new URL(this.getAttribute('src') ?? '', document.baseURI)
      url = addressOf(src.href, this.getAttribute('token') ?? '', protocol)
      ;({ start } = await engines[protocol]())
    } catch {
      if (current()) this.#send({ type: 'ended', reason: 'network' })
      return
    }
    if (!current()) return
    // Later: an engine may report from within a handler of its library, which must return before it is destroyed.
    const later = (event: MachineEvent) => setTimeout(() => {
      if (current()) this.#send(event)
    })
    this.#received = 0
    this.#engine = start(this.#video, url, {
      silent: () => later({ type: 'silent' }), ended: (reason) => later({ type: 'ended', reason }),
    })
    await this.#playVideo(current)
  }

  // playVideo starts the video element: with sound if the browser allows it, else muted, else when a person asks.
  async #playVideo(current: () => boolean) {
    const video = this.#video
    for (;;) {
      try {
        await video.play()
        return
      } catch (err) {
        if (!current() || !(err instanceof DOMException) || err.name !== 'NotAllowedError') return
        if (video.muted) {
          this.#send({ type: 'stop' })
          return
        }
        this.#mutedByBrowser = video.muted = true
      }
    }
  }

  // keepPicture shows the last picture until the next attempt has one.
  #keepPicture() {
    const { videoWidth: width, videoHeight: height } = this.#video
    if (this.#video.readyState < HTMLMediaElement.HAVE_CURRENT_DATA || width === 0) return
    this.#still.width = width
    this.#still.height = height
    this.#still.getContext('2d')?.drawImage(this.#video, 0, 0)
    this.#still.hidden = false
  }

  #playOrPause() {
    if (this.#state.phase === 'idle' || this.#state.phase === 'failed') this.play()
    else this.pause()
  }

  #key(e: KeyboardEvent) {
    if (e.ctrlKey || e.altKey || e.metaKey) return
    const target = e.composedPath()[0]
    if (e.key === ' ' && target instanceof HTMLButtonElement) return // it presses the button
    if (e.key.startsWith('Arrow') && target === this.#volume) return
    const actions: Record<string, () => void> = {
      ' ': () => this.#playOrPause(),
      k: () => this.#playOrPause(),
      m: () => { this.muted = !this.muted },
      f: () => void this.#toggleFullscreen(),
      p: () => void this.#togglePictureInPicture(),
      i: () => this.#toggleInfo(),
      ArrowUp: () => { this.volume += volumeStep },
      ArrowDown: () => { this.volume -= volumeStep },
    }
    const action = actions[e.key.length === 1 ? e.key.toLowerCase() : e.key]
    if (!action) return
    e.preventDefault()
    action()
  }

  async #toggleFullscreen() {
    const video: HTMLVideoElement & { webkitEnterFullscreen?: () => void } = this.#video
    try {
      if (document.fullscreenElement) await document.exitFullscreen()
      else if (document.fullscreenEnabled) await this.requestFullscreen()
      else video.webkitEnterFullscreen?.() // iPhones
    } catch { /* the embedding page or the person does not allow it */ }
  }

  async #togglePictureInPicture() {
    try {
      if (document.pictureInPictureElement) await document.exitPictureInPicture()
      else await this.#video.requestPictureInPicture()
    } catch { /* there is no picture, or the page does not allow it */ }
  }

  #toggleInfo() {
    this.#info.hidden = !this.#info.hidden
    clearInterval(this.#infoTimer)
    if (this.#info.hidden) return
    this.#renderInfo()
    this.#infoTimer = setInterval(() => this.#renderInfo(), 1000)
  }

  #showControls() {
    clearTimeout(this.#hideTimer)
    this.classList.remove('still-pointer')
    if (this.#state.phase !== 'playing') return
    this.#hideTimer = setTimeout(() => this.classList.add('still-pointer'), hideAfter)
  }

  #setPoster() {
    const poster = this.getAttribute('poster')
    if (poster) this.#poster.src = poster
    else this.#poster.removeAttribute('src')
    this.#render()
  }

  #switchLanguage() {
    this.#setLanguage(this.#language === 'en' ? 'zh' : 'en')
    this.#renderInfo()
  }

  #setLanguage(language: Language) {
    this.#language = language
    this.#text = textOf(language)
    for (const e of [this.#message, this.#bar, this.#info]) e.lang = language
    this.#render()
  }

  #button(name: string, press: () => void, ...children: Node[]): HTMLButtonElement {
    const b = element('button', { type: 'button', class: name, part: name }, children)
    b.addEventListener('click', press)
    return b
  }

  #render() {
    const t = this.#text
    const { phase, reason } = this.#state
    const playing = phase === 'playing'
    const idle = phase === 'idle'
    const audioOnly = playing && this.#video.videoWidth === 0
    const [title, more] = audioOnly ? [t.audioOnly, ''] : messageOf(t, phase, reason)
    this.ariaLabel ??= t.player
    this.#title.textContent = title
    this.#more.textContent = more
    this.#message.hidden = title === ''
    this.#message.classList.toggle('quiet', phase === 'stalled' || audioOnly)
    this.#spinner.hidden = phase !== 'connecting' && phase !== 'retrying' && phase !== 'stalled'
    this.#poster.hidden = !this.#poster.hasAttribute('src') || !this.#still.hidden ||
      (!audioOnly && (playing || phase === 'stalled'))
    this.#start.hidden = !idle
    label(this.#start, t.play)
    this.#unmute.hidden = !this.#mutedByBrowser || !(playing || phase === 'stalled')
    this.#unmute.replaceChildren(icon('muted'), t.unmute)
    this.#bar.hidden = !this.hasAttribute('controls')
    setButton(this.#toggle, idle ? 'play' : 'pause', idle ? t.play : t.pause)
    setButton(this.#sound, this.#video.muted ? 'muted' : 'sound', this.#video.muted ? t.unmute : t.mute)
    this.#volume.value = String(this.#video.muted ? 0 : this.#video.volume)
    this.#volume.ariaLabel = t.volume
    this.#live.textContent = t.live
    this.#live.classList.toggle('on', playing)
    setButton(this.#showInfo, 'info', t.info)
    setButton(this.#pip, 'pip', t.pip)
    this.#pip.hidden = !document.pictureInPictureEnabled
    const full = document.fullscreenElement === this
    setButton(this.#full, full ? 'exitFullscreen' : 'fullscreen', full ? t.exitFullscreen : t.fullscreen)
    this.#switch.textContent = textOf(this.#language === 'en' ? 'zh' : 'en').language
    this.#showControls()
  }

  #renderInfo() {
    const t = this.#text
    const { width, height, dropped, behind, received } = this.stats
    const seconds = new Intl.NumberFormat(this.#language, { maximumFractionDigits: 1, minimumFractionDigits: 1 })
    const lines: [string, string][] = [[t.protocol, names[protocolOf(this.#state) ?? 'ws']]]
    lines.push([t.resolution, width > 0 ? `${width} × ${height}` : t.audioOnly])
    if (received !== undefined && this.#received > 0 && received >= this.#received) {
      lines.push([t.bitrate, `${Math.round(((received - this.#received) * 8) / 1000)} kbit/s`])
    }
    this.#received = received ?? 0
    if (behind !== undefined) lines.push([t.behind, `${seconds.format(behind)} s`])
    lines.push([t.dropped, String(dropped)])
    this.#values.replaceChildren(...lines.flatMap(([name, value]) => [
      element('dt', {}, [name]), element('dd', {}, [value]),
    ]))
  }
}

const names: Record<Protocol, string> = { ws: 'WebSocket-FLV', hls: 'HLS', native: 'HLS' }

function label(b: HTMLElement, text: string) {
  b.ariaLabel = b.title = text
}

function setButton(b: HTMLButtonElement, picture: Icon, text: string) {
  if (b.dataset.picture !== picture) b.replaceChildren(icon(picture))
  b.dataset.picture = picture
  label(b, text)
}
