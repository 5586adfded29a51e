// Opens a page that plays streams in Chromium, and prints the state of its players as a line of
// JSON every 200 ms. The libraries that the page loads from cdn.jsdelivr.net come from
// node_modules. On SIGHUP the page is blocked for some seconds, as on a busy machine.
//
//   node page.mjs SHOTS URL
import { createRequire } from 'node:module'
import path from 'node:path'
import { chromium } from 'playwright-core'
import { playerStates } from './players.mjs'

const every = 200 // ms between lines
const blocked = 6000 // ms

const [shots, url] = process.argv.slice(2)
const require = createRequire(import.meta.url)
const browser = await chromium.launch({
  executablePath: '/usr/bin/chromium',
  args: ['--no-sandbox', '--autoplay-policy=no-user-gesture-required', '--disable-dev-shm-usage'],
  handleSIGHUP: false, // handled below
})
process.on('SIGTERM', () => browser.close().then(() => process.exit(0)))

const page = await browser.newPage({ viewport: { width: 700, height: 900 } })
page.on('pageerror', (err) => console.error(err))
const libraries = { 'hls.js': 'hls.js/dist/hls.min.js', 'mpegts.js': 'mpegts.js/dist/mpegts.js' }
await page.route('https://cdn.jsdelivr.net/npm/*', (route) => {
  const [name] = route.request().url().split('/').pop().split('@')
  return route.fulfill({ path: require.resolve(libraries[name]), contentType: 'text/javascript' })
})
process.on('SIGHUP', () => page.evaluate((ms) => { for (const end = Date.now() + ms; Date.now() < end; ); }, blocked))
await page.goto(url)
await page.evaluate(() => {
  window.players = [...document.querySelectorAll('video')].map((video) => ({ url: video.id, video }))
})
for (let n = 0; ; n++) {
  console.log(JSON.stringify(await page.evaluate(playerStates)))
  if (shots && n % 25 === 0) await page.screenshot({ path: path.join(shots, `page${n}.png`) })
  await new Promise((resolve) => setTimeout(resolve, every))
}
