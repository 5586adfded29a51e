// Takes the screenshots of docs/console.md from a server with streams: see scripts/screenshots.
//
//   node screenshots.mjs LIVEGO WORK IMAGES [NAME...]
import { spawn, spawnSync } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { openPage, startBrowser } from './browser.mjs'

const [livego, work, images, ...names] = process.argv.slice(2)
const api = 'http://localhost:8090'
const children = []

function start(command, args, options = {}) {
  const log = fs.openSync(path.join(work, `${children.length}-${path.basename(command)}.log`), 'w')
  const child = spawn(command, args, { cwd: work, stdio: ['ignore', log, log], ...options })
  children.push(child)
  return child
}

function run(command, args) {
  const { status, stderr } = spawnSync(command, args, { cwd: work, encoding: 'utf8' })
  if (status !== 0) throw new Error(`${command} ${args.join(' ')}: ${stderr}`)
}

/** Repeats f until it returns something, for at most a minute. */
async function until(what, f) {
  for (let n = 0; n < 300; n++) {
    const result = await Promise.resolve(f()).catch(() => undefined)
    if (result) return result
    await new Promise((resolve) => setTimeout(resolve, 200))
  }
  throw new Error(`${what}: not after a minute`)
}

async function call(method, route, body) {
  const response = await fetch(api + route, {
    method, headers: { 'Content-Type': 'application/json' }, body: body && JSON.stringify(body),
  })
  if (!response.ok) throw new Error(`${method} ${route}: ${response.status} ${await response.text()}`)
  return response.status === 204 ? undefined : response.json()
}

// --- the server, its streams and its viewers

function serve(name, settings) {
  fs.mkdirSync(path.join(work, name))
  fs.writeFileSync(path.join(work, name, 'livego.yaml'), settings)
  start(livego, [], { cwd: path.join(work, name) })
}

/** Makes half a minute of a moving picture with a tone. */
function film(name, colors, options = []) {
  const [c0, c1, c2] = colors
  run('ffmpeg', ['-v', 'error', '-y',
    '-f', 'lavfi', '-i', `gradients=s=960x540:r=25:d=30:n=3:c0=${c0}:c1=${c1}:c2=${c2}:speed=0.03`,
    '-f', 'lavfi', '-i', 'sine=frequency=220:sample_rate=48000:duration=30',
    '-c:v', 'libx264', '-preset', 'veryfast', '-pix_fmt', 'yuv420p', '-b:v', '1200k', '-g', '50', '-sc_threshold', '0', '-bf', '2',
    '-c:a', 'aac', '-b:a', '128k', ...options, `${name}.flv`])
}

function publish(file, key) {
  return start('ffmpeg', ['-v', 'error', '-re', '-stream_loop', '-1', '-i', `${file}.flv`, '-c', 'copy', '-f', 'flv',
    `rtmp://localhost:1935/live/${key}`])
}

const play = (count, url) =>
  start(livego, ['bench', '--play-only', '--viewers', String(count), '--join', '1s', '--duration', '1h', '--play', url])

async function startServers() {
  film('warm', ['0x1d2b53', '0xb5485d', '0xf2b263'])
  film('cool', ['0x0b2a3a', '0x1f7a8c', '0xbfdbf7'])
  film('violet', ['0x22123f', '0x6b3fa0', '0xe3a7c8'], ['-g', '250', '-keyint_min', '250'])
  run('ffmpeg', ['-v', 'error', '-y', '-i', 'cool.flv', '-vn', '-c', 'copy', 'sound.flv'])
  serve('server', `
flv_archive: true
flv_dir: recordings
private: [live/backstage]
token: {secret: "for the screenshots only"}
relay_allow: [127.0.0.0/8]
hook: {viewers: true}
`)
  serve('other', `
rtmp_addr: 127.0.0.2:1945
httpflv_addr: 127.0.0.2:7011
hls_addr: 127.0.0.2:7012
api_addr: 127.0.0.1:8091
rtmp_noauth: true
jwt: {secret: "for the screenshots only"}
`)
  await until('server ready', async () => (await fetch(`${api}/readyz`)).ok)
}

async function startStreams() {
  const rooms = { main: 'Main stage', studio: 'Studio B, weekdays', radio: 'Radio, sound only', backstage: 'Crew only',
    archive: 'Reruns' }
  const keys = {}
  for (const [room, description] of Object.entries(rooms)) {
    keys[room] = (await call('PUT', `/api/v1/rooms/${room}`, { description })).key
  }
  const backup = await call('POST', '/api/v1/keys', { room: 'main', label: 'backup-van', role: 'backup' })
  await call('POST', '/api/v1/keys', { room: 'studio', label: 'guest', expires: '2031-01-31T12:00:00Z' })
  const first = publish('cool', keys.archive)
  await until('a recording', async () => (await call('GET', '/api/v1/recordings')).recordings.length)
  publish('warm', keys.main)
  publish('warm', backup.key)
  publish('violet', keys.studio)
  publish('sound', keys.radio)
  publish('cool', keys.backstage)
  await until('streams', async () => (await call('GET', '/api/v1/streams')).streams.length === 5)
  first.kill('SIGINT')
  start('ffmpeg', ['-v', 'error', '-i', 'warm.flv', '-c', 'copy', '-f', 'flv', 'rtmp://localhost/live/wrong-key'])
  play(18, 'ws://localhost:7001/live/main.flv')
  play(9, 'http://localhost:7001/live/main.flv')
  play(24, 'llhls+http://localhost:7002/live/main.m3u8')
  play(6, 'rtmp://localhost/live/studio')
  play(7, 'http://localhost:7002/live/radio.m3u8')
  for (const relay of [
    { app: 'live', room: 'main', direction: 'push', url: 'rtmp://cdn.example.org:1945/live/main' },
    { app: 'live', room: 'studio', direction: 'push', url: 'rtmp://backup.example.org:1955/live/studio' },
  ]) await call('POST', '/api/v1/relays', relay)
  await until('viewers', async () => (await call('GET', '/api/v1/sessions?kind=viewer&limit=1000')).sessions.length > 55)
}

// --- the pictures

const desktop = { viewport: { width: 1280, height: 720 } }
const phone = { viewport: { width: 360, height: 740 }, deviceScaleFactor: 1.25, isMobile: true, hasTouch: true }

// The suffix of the file, and the browser.
const forms = {
  'desktop-light': { ...desktop, locale: 'en-GB', colorScheme: 'light' },
  'desktop-dark': { ...desktop, locale: 'en-GB', colorScheme: 'dark' },
  'phone-light': { ...phone, locale: 'en-GB', colorScheme: 'light' },
  'phone-dark': { ...phone, locale: 'en-GB', colorScheme: 'dark' },
  'desktop-zh': { ...desktop, locale: 'zh-CN', colorScheme: 'light' },
}

// How pages are encoded: with 24 colours and no loss, which makes texts sharp and small; those with video, with loss.
const drawing = ['-vf', 'split[a][b];[a]palettegen=max_colors=24:reserve_transparent=0[p];[b][p]paletteuse=dither=none',
  '-lossless', '1', '-quality', '100']
const video = ['-quality', '50']

/**
 * Takes a picture of each page in each form. Pages have a name, a URL, how they are encoded, and what
 * to wait for or to do there.
 */
async function shoot(browser, pages) {
  for (const [form, options] of Object.entries(forms)) {
    const page = await openPage(browser, { ...options, timezoneId: 'UTC' })
    page.on('pageerror', (err) => console.error(`${page.url()}: ${err}`))
    for (const { name, url, ready, act, as = drawing } of pages) {
      if (names.length > 0 && !names.includes(name)) continue
      await page.goto(url)
      await page.waitForSelector(ready)
      await act?.(page)
      await page.waitForTimeout(1200) // pictures and charts, which a page loads in its own time
      const file = path.join(work, 'shot.png')
      await page.screenshot({ path: file })
      run('ffmpeg', ['-v', 'error', '-y', '-i', file, ...as, '-c:v', 'libwebp', '-compression_level', '6',
        path.resolve(images, `${name}-${form}.webp`)])
      console.log(name, form)
    }
    await page.context().close()
  }
}

fs.mkdirSync(images, { recursive: true })
const browser = await startBrowser(['--autoplay-policy=no-user-gesture-required'])
try {
  await startServers()
  const pictures = (p) => p.waitForFunction(() => { // a phone has none of rooms
    const shown = [...document.querySelectorAll('main .thumbnail')].filter((t) => t.offsetParent)
    return shown.filter((t) => t.querySelector('img')).length >= Math.min(2, shown.length)
  })
  const playing = (p) => p.waitForFunction(() =>
    document.querySelector('livego-player')?.shadowRoot.querySelector('video').currentTime > 0)
  const page = (name, hash = name, act) => ({ name, url: `${api}/#/${hash}`, ready: 'main h1', act })
  await shoot(browser, [
    page('start', 'streams'),
    { name: 'login', url: 'http://localhost:8091/', ready: 'form' },
  ])
  await startStreams()
  const warm = 1000 * Number(process.env.SCREENSHOTS_WARM ?? 300) // what charts show
  await new Promise((resolve) => setTimeout(resolve, warm))
  await shoot(browser, [
    { ...page('streams', 'streams', pictures), as: video },
    { ...page('stream', 'streams/live/studio', playing), as: video },
    page('encoder', 'start', async (p) => {
      await p.selectOption('main select', 'archive')
      await p.click('main .primary')
    }),
    { ...page('rooms', 'rooms', pictures), as: video },
    page('sessions'),
    page('recordings'),
    page('relays'),
    page('keys'),
    page('tokens', 'tokens', async (p) => {
      await p.fill('main input[maxlength="128"]', 'backstage')
      await p.click('main form .primary')
    }),
    page('events'),
    page('settings', 'settings', (p) => p.check('input[type=checkbox]')), // with a change that is not saved
    page('server'),
    { name: 'player', url: 'http://localhost:7001/live/main', ready: 'livego-player', act: playing, as: video },
    { name: 'waiting', url: 'http://localhost:7001/live/archive', ready: 'livego-player .pulses', as: video },
  ])
} finally {
  await browser.close()
  for (const child of children) child.kill('SIGKILL')
}
