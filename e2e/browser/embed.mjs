// Serves a page of another origin with a strict policy, which plays a stream by <livego-player> and embeds the player
// page in a frame. Prints the state of both players as a line of JSON every 200 ms. The page controls the frame by
// messages: it asks it to pause and to play again.
//
//   node embed.mjs SHOTS STREAM
import http from 'node:http'
import path from 'node:path'
import { chromium } from 'playwright-core'
import { playerStates } from './players.mjs'

const every = 200 // ms between lines

const [shots, stream] = process.argv.slice(2)
const { origin, host } = new URL(stream)
const policy = [
  "default-src 'none'", `script-src 'nonce-a' ${origin}`, `connect-src ${origin} ws://${host}`, 'media-src blob:',
  `frame-src ${origin}`, "worker-src 'none'", "style-src 'none'", "require-trusted-types-for 'script'",
].join('; ')
const markup = `<!doctype html><title>another site</title>
<script type="module" nonce="a" src="${origin}/.livego/player.js"></script>
<livego-player src="${stream}" autoplay muted controls></livego-player>
<iframe src="${stream}?muted=1" width="320" height="180" allow="autoplay; fullscreen; picture-in-picture"></iframe>
<script nonce="a">
window.messages = []
addEventListener('message', ({ origin, data }) => window.messages.push({ origin, ...data }))
</script>`
const server = http.createServer((_, response) => {
  response.setHeader('Content-Type', 'text/html')
  response.setHeader('Content-Security-Policy', policy)
  response.end(markup)
}).listen(0, '127.0.0.1')
await new Promise((resolve) => server.once('listening', resolve))

const browser = await chromium.launch({
  executablePath: '/usr/bin/chromium', args: ['--no-sandbox', '--disable-dev-shm-usage'],
})
process.on('SIGTERM', () => browser.close().then(() => process.exit(0)))
const faults = []
const page = await browser.newPage({ viewport: { width: 700, height: 700 } })
page.on('pageerror', (err) => faults.push(String(err)))
page.on('console', (message) => {
  if (/Content Security Policy|TrustedHTML/i.test(message.text())) faults.push(message.text())
})
await page.goto(`http://127.0.0.1:${server.address().port}/`)
const frame = page.frames()[1]
const watched = [page, frame]
for (const one of watched) {
  await one.waitForFunction(() => document.querySelector('livego-player')?.shadowRoot)
  await one.evaluate(() => {
    const player = document.querySelector('livego-player')
    window.players = [{ url: '', player, video: player.shadowRoot.querySelector('video') }]
  })
}
// command sends a command to the frame, and waits until it has answered with this phase.
async function command(name, phase) {
  await page.evaluate((name) => {
    window.messages = []
    document.querySelector('iframe').contentWindow.postMessage({ livego: 1, command: name }, '*')
  }, name)
  await page.waitForFunction(([phase, origin]) =>
    window.messages.some((m) => m.origin === origin && m.livego === 1 && m.event === 'state' && m.phase === phase),
  [phase, origin])
}
await frame.waitForFunction(() => window.players[0].player.state.phase === 'playing')
await command('pause', 'idle')
await command('play', 'playing')
// A frame within the frame's own page is not the embedder: its message is not obeyed.
await frame.evaluate(() => window.postMessage({ livego: 1, command: 'pause' }, '*'))
for (let n = 0; ; n++) {
  const states = await Promise.all(watched.map(async (one) => {
    const [state] = await one.evaluate(playerStates)
    const { phase, protocol } = await one.evaluate(() => window.players[0].player.state)
    return { ...state, url: protocol ?? '', note: phase, fatal: faults }
  }))
  console.log(JSON.stringify(states))
  if (shots && n % 25 === 0) await page.screenshot({ path: path.join(shots, `embed${n}.png`) })
  await new Promise((resolve) => setTimeout(resolve, every))
}
