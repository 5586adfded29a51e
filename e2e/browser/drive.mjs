// Opens pages in Chromium for tests, which drive them by HTTP. Prints its port as the first line.
//
//   node drive.mjs
//
// POST /open {url, options, playing}
//                            opens a page in a context with these options of Playwright, and returns its number. With
//                            playing it waits until the player plays, without a call into the page: to the browser such a
//                            call is a gesture of a person, which allows sound.
// POST /run {page, code}     runs the body of an async function (page, context) in Node and returns its result as JSON.
// POST /findings {page}      returns the findings of axe-core in the page.
// POST /faults               returns all faults so far: errors of pages, broken policies, requests to other hosts.
import http from 'node:http'
import { accessibilityFindings, openPage, startBrowser, watchFaults } from './browser.mjs'

const browser = await startBrowser()

const pages = []
const faults = []
const AsyncFunction = (async () => {}).constructor
const calls = {
  async open({ url, options, playing }) {
    const page = await openPage(browser, { viewport: { width: 640, height: 360 }, ...options })
    watchFaults(page, url, faults)
    page.sockets = 0
    page.on('websocket', () => page.sockets++)
    await page.addInitScript(() => {
      addEventListener('statechange', ({ detail }) => console.debug(`player: ${detail?.phase}`), true)
    })
    const plays = playing && page.waitForEvent('console', (message) => message.text() === 'player: playing')
    await page.goto(url)
    await plays
    return pages.push(page) - 1
  },
  run({ page, code }) {
    return new AsyncFunction('page', 'context', code)(pages[page], pages[page].context())
  },
  findings: ({ page }) => accessibilityFindings(pages[page]),
  faults: () => faults,
}

const server = http.createServer(async (request, response) => {
  let body = ''
  for await (const chunk of request) body += chunk
  try {
    const result = await calls[request.url.slice(1)](JSON.parse(body || '{}'))
    response.end(JSON.stringify(result ?? null))
  } catch (err) {
    response.statusCode = 500
    response.end(String(err.stack ?? err))
  }
})
server.listen(0, '127.0.0.1', () => console.log(server.address().port))
