// <livego-player>: connects the state machine, the engines and the controls.
import { addressOf, candidatesOf } from './address.ts'
import { element, icon, type Icon, label, setButton, setPicture, setText } from './dom.ts'
import { buffered, type Engine, type StartEngine } from './engine.ts'
import { type Action, type Event as MachineEvent, initial, next, type Phase, type Protocol, protocolOf, type Reason }
  from './machine.ts'
import { Measures } from './measures.ts'
import { Menu } from './menu.ts'
import { Reporter } from './report.ts'
import { type PlayerStats, Statistics } from './statistics.ts'
import { styles } from './style.ts'
import { type Language, languageOf, messageOf, type Text, textOf } from './text.ts'

const hideAfter = 3000 // ms without a movement of the pointer
const volumeStep = 0.1
const thumbnailAfter = 1000 // ms without a picture

const engines: Record<Protocol, () => Promise<{ start: StartEngine }>> = {
  ws: () => import('./ws.ts'),
  hls: () => import('./hls.ts'),
  native: () => import('./native.ts'),
}

/** The detail of the event `statechange`, which the getter `state` returns too. */
export interface PlayerState {
  phase: Phase
  reason?: Reason
  detail?: string // the code of a refusal, or the codecs that the browser cannot play
  protocol?: Protocol
}

/**
 * The element. Attributes: src (https://host/app/room), token, autoplay, muted, controls, poster, protocol (ws, hls or
 * native), lang (en or zh). Events: statechange, whose detail is a PlayerState, volumechange and languagechange.
 */
export class LivegoPlayer extends HTMLElement {
  static observedAttributes = ['src', 'token', 'controls', 'poster', 'protocol', 'lang']

  readonly #video = element('video', { playsinline: '', part: 'video' })
  readonly #still = element('canvas', { class: 'still', hidden: '' })
  readonly #poster = element('img', { class: 'poster', alt: '', hidden: '' })
  readonly #picture = element('span', { class: 'picture' })
  readonly #title = element('strong')
  readonly #more = element('span')
  readonly #again = this.#button('again', () => this.play())
  readonly #message = element('div', { class: 'message', part: 'message' }, [
    this.#picture, element('div', { class: 'text', role: 'status' }, [this.#title, this.#more]), this.#again,
  ])
  readonly #start = this.#button('start', () => this.play(), element('span', {}, [icon('play')]))
  readonly #unmute = this.#button('unmute', () => { this.muted = false })
  readonly #toggle = this.#button('toggle', () => this.#playOrPause())
  readonly #sound = this.#button('sound', () => { this.muted = !this.muted })
  readonly #volume = element('input', { type: 'range', min: '0', max: '1', step: '0.05', class: 'volume' })
  readonly #live = element('span', { class: 'live' })
  readonly #settings = this.#button('settings', () => this.#showMenu(!!this.#menu.root.hidden))
  readonly #pip = this.#button('pip', () => void this.#togglePictureInPicture())
  readonly #full = this.#button('full', () => void this.#toggleFullscreen())
  readonly #statistics = new Statistics()
  readonly #menu = new Menu({
    protocol: (p) => (p ? this.setAttribute('protocol', p) : this.removeAttribute('protocol')),
    language: (l) => this.setAttribute('lang', l),
    statistics: (shown) => this.#showStatistics(shown),
  })
  readonly #bar = element('div', { class: 'bar', part: 'controls' }, [
    this.#toggle, this.#sound, this.#volume, this.#live, this.#settings, this.#pip, this.#full,
  ])
  readonly #root = element('div', { class: 'root' }, [
    this.#video, this.#still, this.#poster, this.#message, this.#start,
    element('div', { class: 'top' }, [this.#unmute, this.#statistics.root]), this.#menu.root, this.#bar,
  ])

  #state = initial([])
  #measures = new Measures()
  readonly #reporter = new Reporter(() => this.stats)
  #engine: Engine | undefined
  #attempt = 0 // number of the latest attempt; reports of older ones are ignored
  #timer = 0 // of the action wait
  #thumbnail = '' // address of the thumbnail, if it is the poster and was not requested yet
  #posterTimer = 0
  #statisticsTimer = 0
  #hideTimer = 0
  #touched = false // the pointer that last went down is a finger
  #controlsWereHidden = false // at that time
  #offersSound = false // nobody has chosen to play without sound
  #resume = false // the browser has paused while the page was hidden
  #language: Language = 'en'
  #text: Text = textOf('en')
  #events: AbortController | undefined

  constructor() {
    super()
    const root = this.attachShadow({ mode: 'open' })
    root.adoptedStyleSheets = [styles()]
    root.append(this.#root)
    const video = this.#video
    video.addEventListener('loadeddata', () => (this.#still.hidden = true))
    video.addEventListener('playing', () => {
      this.#still.hidden = true
      this.#send({ type: 'playing' })
    })
    video.addEventListener('waiting', () => this.#send({ type: 'stalled' }))
    video.addEventListener('pause', () => this.#paused())
    video.addEventListener('play', () => {
      if (this.#state.phase === 'idle' && this.#engine === undefined) this.play() // by the window of picture-in-picture
    })
    video.addEventListener('resize', () => this.#render())
    video.addEventListener('volumechange', () => {
      if (!video.muted) this.#offersSound = false
      this.#render()
      this.dispatchEvent(new Event('volumechange'))
    })
    this.#volume.addEventListener('input', () => {
      this.volume = Number(this.#volume.value)
    })
    this.#poster.addEventListener('error', () => {
      this.#poster.removeAttribute('src')
      this.#render()
    })
    this.#root.addEventListener('pointerdown', (e) => {
      this.#touched = e.pointerType === 'touch'
      this.#controlsWereHidden = this.#root.classList.contains('quiet')
    }, { capture: true })
    for (const layer of [video, this.#message]) {
      layer.addEventListener('click', (e) => {
        if (e.target instanceof Element && e.target.closest('button')) return
        if (!this.#menu.root.hidden) this.#showMenu(false)
        else if (!this.#touched) this.#playOrPause()
        else if (!this.#controlsWereHidden) this.#hideControls()
      })
      layer.addEventListener('dblclick', () => {
        if (!this.#touched) void this.#toggleFullscreen()
      })
    }
  }

  connectedCallback() {
    if (!this.hasAttribute('tabindex')) this.tabIndex = 0
    if (!this.hasAttribute('role')) this.role = 'region'
    this.#events = new AbortController()
    const { signal } = this.#events
    this.addEventListener('keydown', (e) => this.#key(e), { signal })
    for (const type of ['pointermove', 'pointerdown', 'focusin', 'keydown']) {
      this.addEventListener(type, () => this.#showControls(), { signal })
    }
    this.addEventListener('pointerleave', (e) => {
      if (e.pointerType === 'mouse') this.#hideControls()
    }, { signal })
    document.addEventListener('fullscreenchange', () => this.#render(), { signal })
    window.addEventListener('pagehide', () => this.#reporter.send(), { signal })
    document.addEventListener('visibilitychange', () => {
      if (!document.hidden && this.#resume) this.play()
    }, { signal })
    this.#video.muted = this.hasAttribute('muted')
    this.#offersSound = this.#video.muted && this.#hasControls()
    this.#setLanguage()
    this.#reset()
    if (this.hasAttribute('autoplay')) this.play()
    this.#setPoster()
  }

  disconnectedCallback() {
    this.#events?.abort()
    clearTimeout(this.#hideTimer)
    this.#showStatistics(false)
    this.#send({ type: 'stop' })
  }

  attributeChangedCallback(name: string, before: string | null, value: string | null) {
    if (!this.isConnected || before === value) return
    if (name === 'lang') this.#setLanguage()
    else if (name === 'controls') this.#render()
    else if (name === 'poster') this.#setPoster()
    else {
      const plays = this.#state.phase !== 'idle'
      this.#reset()
      if (plays || this.hasAttribute('autoplay')) this.play()
      if (name !== 'protocol') this.#setPoster()
    }
  }

  /** Starts to play at the newest picture. Without an address nothing happens. */
  play(): void {
    if (!this.#addressOf('ws')) return
    this.#resume = false
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

  /** The language of the player. It is set by the attribute lang. */
  get language(): Language {
    return this.#language
  }

  /** What the player does at the moment. */
  get state(): PlayerState {
    const { phase, reason, detail } = this.#state
    const protocol = protocolOf(this.#state)
    return { phase, ...(reason && { reason }), ...(detail && { detail }), ...(protocol && { protocol }) }
  }

  /** What is known about the stream and how it is played. */
  get stats(): PlayerStats {
    const { videoWidth: width, videoHeight: height } = this.#video
    const { totalVideoFrames: frames, droppedVideoFrames: dropped } = this.#video.getVideoPlaybackQuality()
    const { startTime, stalls, stallTime, errors, switches } = this.#measures
    const engine = this.#engine
    const behind = engine?.latency()
    const ahead = engine && buffered(this.#video)
    const received = engine?.received()
    return {
      width, height, codecs: engine?.codecs() ?? '', frames, dropped,
      ...(behind !== undefined && { behind }), ...(ahead !== undefined && { buffered: ahead }),
      ...(received !== undefined && { received }),
      ...(startTime !== undefined && { startTime: startTime / 1000 }),
      stalls, stallTime: stallTime / 1000, errors, switches,
    }
  }

  // usable returns the protocols that this browser may use: the one that is wanted, or all.
  #usable(wanted: string): Protocol[] {
    const mse = 'MediaSource' in window || 'ManagedMediaSource' in window
    const nativeHLS = this.#video.canPlayType('application/vnd.apple.mpegurl') !== ''
    return candidatesOf(wanted, mse, nativeHLS)
  }

  // addressOf returns the address of the stream by a protocol or of its thumbnail, "" without a valid src.
  #addressOf(what: Protocol | 'jpg'): string {
    const src = this.getAttribute('src')
    if (!src || !URL.canParse(src, document.baseURI)) return ''
    return addressOf(new URL(src, document.baseURI).href, this.getAttribute('token') ?? '', what)
  }

  // reset ends playing, and applies the attributes.
  #reset() {
    this.#send({ type: 'stop' })
    this.#state = initial(this.#usable(this.getAttribute('protocol') ?? ''))
    this.#render()
  }

  #send(event: MachineEvent) {
    const before = this.#state
    const [state, actions] = next(before, event)
    this.#state = state
    this.#measures.observe(before, state, performance.now())
    this.#reporter.observe(before, state, event)
    for (const action of actions) this.#do(action)
    if (state !== before) {
      this.#render()
      this.dispatchEvent(new CustomEvent<PlayerState>('statechange', { detail: this.state }))
    }
  }

  #do(action: Action) {
    clearTimeout(this.#timer)
    this.#disconnect()
    clearTimeout(this.#posterTimer)
    if (action.type === 'connect') {
      void this.#connect(action.protocol)
      this.#posterTimer = setTimeout(() => {
        if (this.#state.phase !== 'connecting') return
        this.#showThumbnail()
        this.#render()
      }, thumbnailAfter)
    } else if (action.type === 'wait') this.#timer = setTimeout(() => this.#send({ type: 'timer' }), action.ms)
  }

  #disconnect() {
    this.#attempt++
    if (!this.#engine) return
    this.#keepPicture()
    const engine = this.#engine
    this.#engine = undefined
    engine.destroy()
  }

  async #connect(protocol: Protocol) {
    const attempt = this.#attempt
    const current = () => attempt === this.#attempt
    let start: StartEngine
    try {
      ({ start } = await engines[protocol]())
    } catch {
      if (current()) this.#send({ type: 'ended', reason: 'network' })
      return
    }
    if (!current()) return
    // Later: an engine may report from within a handler of its library, which must return before it is destroyed.
    const later = (event: MachineEvent) => setTimeout(() => {
      if (current()) this.#send(event)
    })
    this.#engine = start(this.#video, this.#reporter.addressOf(this.#addressOf(protocol)), {
      silent: () => later({ type: 'silent' }),
      ended: (reason, detail) => later({ type: 'ended', reason, ...(detail && { detail }) }),
    })
    await this.#playVideo(current)
  }

  // playVideo starts the video element: with sound if the browser allows it, else muted, else when a person asks.
  async #playVideo(current: () => boolean) {
    const video = this.#video
    const { muted } = video
    for (;;) {
      try {
        await video.play()
        return
      } catch (err) {
        if (!current() || !(err instanceof DOMException) || err.name !== 'NotAllowedError') return
        if (video.muted) {
          video.muted = muted // a person who starts it hears it
          this.#offersSound &&= muted
          this.#send({ type: 'stop' })
          return
        }
        this.#offersSound = video.muted = true
      }
    }
  }

  // paused stops a player whose video something else has paused: a key of the keyboard, the window of
  // picture-in-picture, or a browser that saves power while the page is hidden.
  #paused() {
    const { hidden } = document
    const attempt = this.#attempt
    setTimeout(() => { // a video that fails is paused too: its engine reports that first
      const { paused, ended, error } = this.#video
      if (attempt !== this.#attempt || !this.#engine || !paused || ended || error) return
      this.pause()
      this.#resume = hidden
    })
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
    const changes = e.key === ' ' || e.key.startsWith('Arrow')
    if (target instanceof HTMLInputElement && changes) return // its value
    const actions: Record<string, () => void> = {
      ' ': () => this.#playOrPause(),
      k: () => this.#playOrPause(),
      m: () => { this.muted = !this.muted },
      f: () => void this.#toggleFullscreen(),
      p: () => void this.#togglePictureInPicture(),
      i: () => this.#showStatistics(!!this.#statistics.root.hidden),
      ArrowUp: () => { this.volume += volumeStep },
      ArrowDown: () => { this.volume -= volumeStep },
      ...(!this.#menu.root.hidden && { Escape: () => this.#showMenu(false) }),
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

  #showMenu(shown: boolean) {
    this.#menu.root.hidden = !shown
    this.#render()
    if (shown) this.#menu.root.querySelector<HTMLInputElement>('input:checked')?.focus()
    else this.#settings.focus()
  }

  #showStatistics(shown: boolean) {
    this.#statistics.root.hidden = !shown
    clearInterval(this.#statisticsTimer)
    if (shown) {
      this.#renderStatistics()
      this.#statisticsTimer = setInterval(() => this.#renderStatistics(), 1000)
    }
    this.#renderMenu()
  }

  #hasControls(): boolean {
    return !['0', 'false', null].includes(this.getAttribute('controls'))
  }

  #showControls() {
    clearTimeout(this.#hideTimer)
    this.#root.classList.remove('quiet')
    this.#hideTimer = setTimeout(() => this.#hideControls(), hideAfter)
  }

  #hideControls() {
    const { phase } = this.#state
    if (phase !== 'idle' && phase !== 'failed' && this.#menu.root.hidden) this.#root.classList.add('quiet')
  }

  #setPoster() {
    const poster = this.getAttribute('poster')
    this.#poster.removeAttribute('src')
    this.#thumbnail = ''
    if (poster) this.#poster.src = poster
    else if (poster === null) this.#thumbnail = this.#addressOf('jpg')
    this.#render()
  }

  // showThumbnail shows the thumbnail of the stream as the poster. It is not requested when there is a picture soon,
  // since the server has to render it.
  #showThumbnail() {
    if (this.#thumbnail) this.#poster.src = this.#thumbnail
    this.#thumbnail = ''
  }

  #setLanguage() {
    const language = languageOf([this.getAttribute('lang') ?? '', ...navigator.languages].filter(Boolean))
    const changed = language !== this.#language
    this.#language = language
    this.#text = textOf(language)
    this.#root.lang = language
    this.#render()
    if (!this.#statistics.root.hidden) this.#renderStatistics()
    if (changed) this.dispatchEvent(new Event('languagechange'))
  }

  #button(name: string, press: () => void, ...children: Node[]): HTMLButtonElement {
    const b = element('button', { type: 'button', class: name, part: name }, children)
    b.addEventListener('click', press)
    return b
  }

  #render() {
    const t = this.#text
    const { phase, reason, connected } = this.#state
    const shows = phase === 'playing' || phase === 'stalled'
    const idle = phase === 'idle'
    if (idle && this.#still.hidden && this.isConnected) this.#showThumbnail()
    const audioOnly = shows && this.#video.videoWidth === 0
    const slow = this.#measures.slow(performance.now())
    const [title, more] = audioOnly && phase === 'playing' ? [t.audioOnly, ''] : messageOf(t, this.#state, slow)
    const failed = phase === 'failed'
    const mayRetry = failed && !connected && reason === 'refused'
    this.ariaLabel = t.player
    setText(this.#title, title)
    setText(this.#more, more)
    this.#message.hidden = title === ''
    const picture = (shows && !audioOnly) || !this.#still.hidden
    this.#message.dataset.over = picture ? 'picture' : this.#poster.hasAttribute('src') ? 'poster' : ''
    setPicture(this.#picture, audioOnly ? 'sound' : pictureOf(phase, reason))
    this.#picture.classList.toggle('pulses', phase === 'offline' || audioOnly)
    this.#again.hidden = !mayRetry
    setText(this.#again, t.tryAgain)
    this.#poster.hidden = !this.#poster.hasAttribute('src') || !this.#still.hidden || (shows && !audioOnly)
    this.#start.hidden = !idle
    label(this.#start, t.play)
    this.#unmute.hidden = !this.#offersSound || !shows
    if (this.#unmute.lang !== this.#language) this.#unmute.replaceChildren(icon('muted'), t.unmute)
    this.#unmute.lang = this.#language
    this.#bar.hidden = !this.#hasControls()
    for (const e of [this.#toggle, this.#sound, this.#volume, this.#live]) e.hidden = failed
    setButton(this.#toggle, idle ? 'play' : 'pause', idle ? t.play : t.pause)
    setButton(this.#sound, this.#video.muted ? 'muted' : 'sound', this.#video.muted ? t.unmute : t.mute)
    this.#volume.value = String(this.#video.muted ? 0 : this.#video.volume)
    this.#volume.ariaLabel = t.volume
    setText(this.#live, t.live)
    this.#live.classList.toggle('on', phase === 'playing')
    setButton(this.#settings, 'settings', t.settings)
    this.#settings.ariaExpanded = String(!this.#menu.root.hidden)
    setButton(this.#pip, 'pip', t.pip)
    this.#pip.hidden = !document.pictureInPictureEnabled || audioOnly || failed
    const full = document.fullscreenElement === this
    setButton(this.#full, full ? 'exitFullscreen' : 'fullscreen', full ? t.exitFullscreen : t.fullscreen)
    this.#renderMenu()
    this.#showControls()
  }

  #renderMenu() {
    if (this.#menu.root.hidden) return
    const usable = this.#usable('')
    this.#menu.render(this.#text, {
      usable, protocol: usable.find((p) => p === this.getAttribute('protocol')) ?? '', language: this.#language,
      statistics: !this.#statistics.root.hidden,
    })
  }

  #renderStatistics() {
    this.#statistics.render(this.#text, this.#language, protocolOf(this.#state), this.stats)
  }
}

// pictureOf returns the picture beside a message, or undefined for a spinner.
function pictureOf(phase: Phase, reason: Reason | undefined): Icon | undefined {
  if (phase === 'offline' || (phase === 'stalled' && reason === 'offline')) return 'antenna'
  if (phase !== 'failed') return undefined
  return reason === 'refused' ? 'lock' : reason === 'full' ? 'people' : 'warning'
}
