// Plays streams in Chromium, each by the library for its address, and prints the state of the
// players as a line of JSON every 200 ms.
//
//   node play.mjs SHOTS ADDRESS...
//
// SHOTS is a directory for a screenshot every few seconds, or "" for none. An address that ends in
// #whole is played from its first segment to the end, instead of from the live edge. One that ends
// in #slow=100 slows down all players of the page: messages to workers are delayed by 100 ms. One that
// ends in #behind=4 is played 4 s behind the live edge.
import { createRequire } from 'node:module'
import path from 'node:path'
import { openPage, startBrowser } from './browser.mjs'
import { playerStates } from './players.mjs'

const every = 200 // ms between lines
const shotEvery = 5000

const [shots, ...addresses] = process.argv.slice(2)
const require = createRequire(import.meta.url)
const browser = await startBrowser(['--autoplay-policy=no-user-gesture-required'])

const page = await openPage(browser, { ignoreHTTPSErrors: true, viewport: { width: 1700, height: 300 } })
page.on('pageerror', (err) => console.error(err))
await page.setContent('<!doctype html><body style="margin:0;background:#444">')
await page.addScriptTag({ path: require.resolve('hls.js/dist/hls.min.js') })
await page.addScriptTag({ path: require.resolve('mpegts.js/dist/mpegts.js') })
for (const [, delay] of addresses.map((address) => address.match(/#slow=(\d+)$/)).filter(Boolean).slice(0, 1)) {
  await page.evaluate((ms) => {
    const post = Worker.prototype.postMessage
    Worker.prototype.postMessage = function (...message) { setTimeout(() => post.apply(this, message), ms) }
  }, Number(delay))
}
await page.evaluate(start, addresses)

let shot = Date.now()
for (let n = 0; ; ) {
  console.log(JSON.stringify(await page.evaluate(playerStates)))
  if (shots && Date.now() - shot >= shotEvery) {
    shot = Date.now()
    await page.screenshot({ path: path.join(shots, `${n++}.png`) })
  }
  await new Promise((resolve) => setTimeout(resolve, every))
}

// start creates the players and starts them. It runs inside the page.
function start(addresses) {
  window.players = addresses.map((address) => {
    const [url, mode] = address.split('#')
    const whole = mode === 'whole'
    const video = document.createElement('video')
    video.muted = true
    video.autoplay = true
    video.width = 320
    document.body.append(video)
    const p = { url, video, fatal: [], errors: [], widths: [], over: false }
    video.addEventListener('resize', () => p.widths.push(video.videoWidth))
    if (url.includes('.m3u8')) {
      // maxLiveSyncPlaybackRate as in docs/watching.md
      const behind = mode?.startsWith('behind=') ? { liveSyncDuration: Number(mode.slice(7)) } : {}
      const cmcd = mode === 'cmcd' ? { cmcd: {} } : {}
      const hls = new Hls({ ...(whole ? { startPosition: 0 } : { maxLiveSyncPlaybackRate: 1.5 }), ...behind, ...cmcd })
      hls.on(Hls.Events.ERROR, (_, data) => {
        const url = data.context?.url ?? ''
        p.errors.push(`${data.details} at ${video.currentTime} ${url}`)
        if (data.fatal) p.fatal.push(`${data.type} ${data.details}: ${data.error?.message} ${url}`)
      })
      hls.loadSource(url)
      hls.attachMedia(video)
      p.hls = hls
    } else {
      const settings = { enableWorker: false, liveBufferLatencyChasing: !whole }
      const player = mpegts.createPlayer({ type: 'flv', isLive: true, url }, settings)
      player.on(mpegts.Events.ERROR, (...detail) => p.fatal.push(JSON.stringify(detail)))
      player.on(mpegts.Events.LOADING_COMPLETE, () => (p.over = true))
      player.attachMediaElement(video)
      player.load()
      player.play().catch(() => {}) // playback starts by itself when there is data
    }
    video.addEventListener('ended', () => (p.over = p.ended = true))
    video.addEventListener('error', () => p.fatal.push(`video ${video.error.message}`))
    return p
  })
}
