// Opens pages in Chromium for tests, which drive them by HTTP. Prints its port as the first line.
//
//   node drive.mjs
//
// POST /open {url, options, playing}
//                            opens a page in a context with these options of Playwright, and returns its number. With
//                            playing it waits until the player plays, without a call into the page: to the browser such a
//                            call is a gesture of a person, which allows sound.
// POST /run {page, code}     runs the body of an async function (page, context) in Node and returns its result as JSON.
// POST /faults               returns all faults so far: errors of pages, broken policies, requests to other hosts.
import http from 'node:http'
import { chromium } from 'playwright-core'

const browser = await chromium.launch({
  executablePath: '/usr/bin/chromium', args: ['--no-sandbox', '--disable-dev-shm-usage'],
})
process.on('SIGTERM', () => browser.close().then(() => process.exit(0)))

const pages = []
const faults = []
const AsyncFunction = (async () => {}).constructor
const calls = {
  async open({ url, options, playing }) {
    const context = await browser.newContext({ viewport: { width: 640, height: 360 }, ...options })
    const page = await context.newPage()
    page.on('pageerror', (err) => faults.push(`${url}: ${err}`))
    page.on('console', (message) => {
      if (/Content Security Policy/i.test(message.text())) faults.push(`${url}: ${message.text()}`)
    })
    const check = (target) => {
      const { protocol, host } = new URL(target)
      if (protocol !== 'blob:' && protocol !== 'data:' && host !== new URL(url).host) {
        faults.push(`${url}: request to ${host}`)
      }
    }
    page.sockets = 0
    page.on('websocket', (socket) => {
      page.sockets++
      check(socket.url())
    })
    page.on('request', (request) => check(request.url()))
    page.setDefaultTimeout(30_000)
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
