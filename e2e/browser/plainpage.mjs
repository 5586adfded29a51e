// Uses the forms of the plain page, which servers without the console have. Every room is private.
//
//   node plainpage.mjs URL
import assert from 'node:assert/strict'
import { accessibilityFindings, openPage, startBrowser, watchFaults } from './browser.mjs'

const [url] = process.argv.slice(2)
const browser = await startBrowser()
const faults = []
const page = await openPage(browser, { locale: 'en-GB', viewport: { width: 360, height: 740 } })
watchFaults(page, url, faults)
await page.goto(url)
await page.getByText('Nothing is live.').waitFor()

await page.getByLabel('Room').fill('cam')
await page.getByRole('button', { name: 'Show key' }).click()
await page.locator('#shown').filter({ hasText: /^[0-9A-Za-z]{48}$/ }).waitFor()
const { data } = await page.request.get(`${url}control/get?room=cam`).then((r) => r.json())
assert.equal(await page.locator('#shown').textContent(), data)
await page.getByLabel('Room').fill('a/b')
await page.getByRole('button', { name: 'Show key' }).click()
await page.locator('#shown').filter({ hasText: /room name/ }).waitFor()

await page.getByText('Make a token').click()
await page.getByLabel('Stream').fill('live/cam')
await page.getByLabel('Viewers at a time').fill('2')
await page.getByLabel('valid once').check()
await page.getByRole('button', { name: 'Make', exact: true }).click()
await page.locator('#made').filter({ hasText: '/live/cam.flv?token=' }).waitFor()
const [token, ...addresses] = (await page.locator('#made').textContent()).split('\n\n')
assert.equal(JSON.parse(atob(token.split('.')[1].replaceAll('-', '+').replaceAll('_', '/'))).room, 'cam')
assert.ok(addresses.every((a) => a.includes(token)), addresses.join('\n'))
await page.getByLabel('Stream').fill('nothing/cam')
await page.getByRole('button', { name: 'Make', exact: true }).click()
await page.locator('#made').filter({ hasText: /app/ }).waitFor() // the reason of the API

assert.deepEqual(await accessibilityFindings(page), [])
assert.deepEqual(faults, [])
await browser.close()
