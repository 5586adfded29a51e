// Plays streams in Chromium, each by the library that its address asks for, and tells how they fare: a line of JSON now and then.
//
//   node play.mjs SHOTS ADDRESS...
//
// SHOTS is a directory for a picture of the page every few seconds, or "" for none. An address that ends in
// #whole is played from the first thing there is to the end, instead of from now on. One that ends in #slow=100
// makes all players of the page slow: what is given to a worker gets there 100 ms later.
import { createRequire } from 'node:module'
import path from 'node:path'
import { chromium } from 'playwright-core'
import { look } from './look.mjs'

const every = 200 // ms between lines
const shotEvery = 5000

const [shots, ...addresses] = process.argv.slice(2)
const require = createRequire(import.meta.url)
const browser = await chromium.launch({
  executablePath: '/usr/bin/chromium',
  args: ['--no-sandbox', '--autoplay-policy=no-user-gesture-required', '--disable-dev-shm-usage'],
})
process.on('SIGTERM', () => browser.close().then(() => process.exit(0)))

const page = await browser.newPage({ viewport: { width: 1100, height: 300 } })
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
  console.log(JSON.stringify(await page.evaluate(look)))
  if (shots && Date.now() - shot >= shotEvery) {
    shot = Date.now()
    await page.screenshot({ path: path.join(shots, `${n++}.png`) })
  }
  await new Promise((resolve) => setTimeout(resolve, every))
}

// start begins to play, inside the page.
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
      // maxLiveSyncPlaybackRate as docs/watching.md has it
      const hls = new Hls(whole ? { startPosition: 0 } : { maxLiveSyncPlaybackRate: 1.5 })
      hls.on(Hls.Events.ERROR, (_, data) => p.errors.push(`${data.details} at ${video.currentTime} ${data.context?.url ?? ""}`))
      hls.on(Hls.Events.ERROR, (_, data) => data.fatal && p.fatal.push(`${data.type} ${data.details}: ${data.error?.message} ${data.context?.url ?? ""}`))
      hls.loadSource(url)
      hls.attachMedia(video)
      p.hls = hls
    } else {
      const player = mpegts.createPlayer({ type: 'flv', isLive: true, url }, { enableWorker: false, liveBufferLatencyChasing: !whole })
      player.on(mpegts.Events.ERROR, (...detail) => p.fatal.push(JSON.stringify(detail)))
      player.on(mpegts.Events.LOADING_COMPLETE, () => (p.over = true))
      player.attachMediaElement(video)
      player.load()
      player.play().catch(() => {}) // it begins by itself when there is something
    }
    video.addEventListener('ended', () => (p.over = p.ended = true))
    video.addEventListener('error', () => p.fatal.push(`video ${video.error.message}`))
    return p
  })
}
