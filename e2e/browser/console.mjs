// Opens the console in Chromium, creates a token on its page, and prints the token and the addresses that the page shows.
//
//   node console.mjs URL
import { openPage, startBrowser } from './browser.mjs'

const [url] = process.argv.slice(2)
const browser = await startBrowser()
const page = await openPage(browser, { locale: 'en-GB' })
page.on('pageerror', (err) => console.error(err))
page.on('console', (message) => message.type() === 'error' && console.error(message.text()))
await page.goto(`${url}#/tokens`)
await page.getByLabel('Room').fill('movie')
await page.getByLabel('Viewers at a time').fill('2')
await page.getByRole('button', { name: 'Make token' }).click()
await page.getByRole('button', { name: 'Show: Token' }).click()
const shown = await page.getByRole('region', { name: 'Ready links' }).locator('code').allInnerTexts()
const links = shown.filter((text) => text.includes('.flv?') || text.includes('.m3u8?') || text.startsWith('rtmp:'))
console.log([shown.at(-1), ...links].join('\n'))
await browser.close()
