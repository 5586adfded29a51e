// Opens a page of the files in statics in Chromium, and prints the results of its scripts as JSON.
//
//   node statics.mjs URL
import { openPage, startBrowser } from './browser.mjs'

const [url] = process.argv.slice(2)
const browser = await startBrowser()
const page = await openPage(browser)
await page.goto(url)
await page.waitForFunction(() => window.found?.done)
const found = await page.evaluate(() => window.found)
await page.click('text=What is live')
await page.waitForSelector('text=/Your first stream|Nothing is live/') // with or without the console: it uses the API
console.log(JSON.stringify(found))
await browser.close()
