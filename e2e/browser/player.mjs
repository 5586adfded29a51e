// Opens player pages in Chromium, each in a window, and prints the state of their players as a line
// of JSON every 200 ms. It fails if a page asks another host for anything, or breaks its policy. On
// SIGHUP the processes of the pages are stopped for some seconds, as on a busy machine.
//
//   node player.mjs SHOTS URL...
import { spawn } from 'node:child_process'
import path from 'node:path'
import { openPage, startBrowser, watchFaults } from './browser.mjs'
import { playerStates } from './players.mjs'

const every = 200 // ms between lines
const stopped = 6 // s

const [shots, ...urls] = process.argv.slice(2)
const browser = await startBrowser([], { handleSIGHUP: false }) // handled below

const faults = [] // errors of the pages, in order
const pages = await Promise.all(urls.map(async (url) => {
  const page = await openPage(browser, { viewport: { width: 640, height: 360 } })
  watchFaults(page, url, faults)
  await page.goto(url)
  await page.evaluate(() => {
    const player = document.querySelector('livego-player')
    window.players = [{ url: '', player, video: player.shadowRoot.querySelector('video') }]
  })
  return page
}))
const session = await browser.newBrowserCDPSession()
process.on('SIGHUP', async () => {
  const { processInfo } = await session.send('SystemInfo.getProcessInfo')
  const pids = processInfo.filter((p) => p.type === 'renderer').map((p) => p.id).join(' ')
  // by a process that outlives this one: no page stays stopped
  spawn('sh', ['-c', `kill -STOP ${pids}; sleep ${stopped}; kill -CONT ${pids}`], { detached: true, stdio: 'ignore' }).unref()
})
for (let n = 0; ; n++) {
  const states = await Promise.all(pages.map(async (page) => {
    const [state] = await page.evaluate(playerStates)
    const { phase, reason, protocol } = await page.evaluate(() => window.players[0].player.state)
    return { ...state, url: protocol ?? '', note: reason ? `${phase}: ${reason}` : phase, fatal: faults }
  }))
  console.log(JSON.stringify(states))
  if (shots && n % 25 === 0) {
    await Promise.all(pages.map((page, i) => page.screenshot({ path: path.join(shots, `player${i}-${n}.png`) })))
  }
  await new Promise((resolve) => setTimeout(resolve, every))
}
