// Logs in to the operator's page in Chromium, uses it, logs out, and prints the results as JSON.
//
//   node login.mjs URL TOKEN DIRECTORY-FOR-SCREENSHOTS|'' [HOST-RESOLVER-RULES]
import { openPage, startBrowser } from './browser.mjs'

const [url, token, shots, rules = ''] = process.argv.slice(2)
const browser = await startBrowser([`--host-resolver-rules=${rules}`])
const page = await openPage(browser, { ignoreHTTPSErrors: true, viewport: { width: 900, height: 700 } })
const context = page.context()
page.on('pageerror', (err) => console.error(err))
const shot = async (name) => shots && page.screenshot({ path: `${shots}/${name}.png`, fullPage: true })
const seen = {}

seen.refused = (await page.goto(url)).status()
await shot('login')
await page.fill('#credential', 'guess')
await page.click('text=Log in >> nth=-1')
seen.wrong = await page.textContent('#wrong')
await shot('wrong')
await page.fill('#credential', token)
await page.press('#credential', 'Enter')
await page.waitForSelector('text=Log out')
seen.address = page.url()
seen.cookies = await context.cookies()
const server = await page.evaluate(() => fetch('api/v1/server').then((r) => r.json()))
seen.links = server.apps[0].play.map((a) => a.url)
seen.key = await page.evaluate((token) => fetch('api/v1/rooms/cinema', {
  method: 'PUT', headers: { 'X-CSRF-Token': token, 'Content-Type': 'application/json' }, body: '{}',
}).then((r) => r.json()).then((room) => room.key), server.csrf_token)
await shot('page')
// A page of another site: the browser sends it no cookie.
const other = await context.newPage()
await other.goto('data:text/html,<p>other')
seen.foreign = await other.evaluate((u) => new Promise((done) => {
  const image = new Image()
  image.onload = image.onerror = () => done('tried')
  image.src = u
}), new URL('/control/delete?room=cinema', url).href)
// The same by the operator's page, without its CSRF token.
seen.unproved = await page.evaluate(() => fetch('/control/delete?room=cinema').then((r) => r.status))
await page.click('text=Log out')
await page.waitForSelector('#credential')
seen.after = await page.evaluate(() => fetch('/stat/livestat').then((r) => r.status))
console.log(JSON.stringify(seen))
await browser.close()
