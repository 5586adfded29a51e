// Serves a page of another origin with a strict policy, which plays a stream by <livego-player> and embeds the player
// page in a frame. Prints the state of both players as a line of JSON every 200 ms. The page controls the frame by
// messages: it asks it to pause and to play again.
//
//   node embed.mjs SHOTS STREAM
import http from 'node:http'
import path from 'node:path'
import { openPage, startBrowser } from './browser.mjs'
import { playerStates } from './players.mjs'

const every = 200 // ms between lines

const [shots, stream] = process.argv.slice(2)
const { origin, host } = new URL(stream)
const policy = [
  "default-src 'none'", `script-src 'nonce-a' ${origin}`, `connect-src ${origin} ws://${host}`, 'media-src blob:',
  `img-src ${origin}`, `frame-src ${origin} http://localhost:*`, "worker-src 'none'", "style-src 'none'",
  "require-trusted-types-for 'script'",
].join('; ')
const markup = `<!doctype html><title>another site</title>
<script type="module" nonce="a" src="${origin}/.livego/player.js"></script>
<livego-player src="${stream}" autoplay muted controls></livego-player>
<iframe src="${stream}?muted=1" width="320" height="180" allow="autoplay; fullscreen; picture-in-picture"></iframe>
<iframe src="http://localhost:PORT/other" width="20" height="20"></iframe>
<script nonce="a">
window.messages = []
addEventListener('message', ({ origin, data }) => window.messages.push({ origin, ...data }))
</script>`
const other = `<!doctype html><script>
setInterval(() => parent.frames[0].postMessage({ livego: 1, command: 'pause' }, '*'), 100)
</script>`
const server = http.createServer((request, response) => {
  response.setHeader('Content-Type', 'text/html')
  if (request.url === '/other') return response.end(other)
  response.setHeader('Content-Security-Policy', policy)
  response.end(markup.replace('PORT', server.address().port))
}).listen(0, '127.0.0.1')
await new Promise((resolve) => server.once('listening', resolve))

const browser = await startBrowser()
const faults = []
const page = await openPage(browser, { viewport: { width: 700, height: 700 } })
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
// command sends a command to the frame, and waits until it has answered with a message that has these fields.
async function command(message, answer) {
  await page.evaluate((message) => {
    window.messages = []
    document.querySelector('iframe').contentWindow.postMessage({ livego: 1, ...message }, '*')
  }, message)
  await page.waitForFunction(([answer, origin]) => window.messages.some((m) => m.origin === origin && m.livego === 1 &&
    Object.entries(answer).every(([name, value]) => m[name] === value)), [answer, origin])
}
await frame.waitForFunction(() => window.players[0].player.state.phase === 'playing')
await command({ command: 'pause' }, { event: 'state', phase: 'idle' })
await command({ command: 'play' }, { event: 'state', phase: 'playing' })
await command({ command: 'volume', value: 0.5 }, { event: 'volume', volume: 0.5, muted: false })
await command({ command: 'mute' }, { event: 'volume', volume: 0.5, muted: true })
await command({ command: 'state' }, { event: 'state', phase: 'playing', protocol: 'ws' })
await command({ command: 'stats' }, { event: 'stats', width: 160, height: 90 })
// Only the page that embeds the player is obeyed: not the player page, nor the page in the other frame.
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
