// Opens the operator's page in Chromium, creates a token by its form, and prints what the page
// shows then.
//
//   node console.mjs URL
import { chromium } from 'playwright-core'

const [url] = process.argv.slice(2)
const browser = await chromium.launch({
  executablePath: '/usr/bin/chromium',
  args: ['--no-sandbox', '--disable-dev-shm-usage'],
})
const page = await browser.newPage()
page.on('pageerror', (err) => console.error(err))
page.on('console', (message) => message.type() === 'error' && console.error(message.text()))
await page.goto(url)
await page.click('text=Make a token')
await page.fill('input[name=stream]', 'live/movie')
await page.fill('input[name=viewers]', '2')
await page.click('#token button')
await page.waitForSelector('#made:not([hidden])')
console.log(await page.textContent('#made'))
await browser.close()
