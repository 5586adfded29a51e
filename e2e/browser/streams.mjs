// Uses the pages of streams and rooms of a server with thirty streams, room01 to room30, of which room02 is private, and
// of a server without thumbnails, with a JWT of the role read. Prints the CPU that the browser needs as JSON.
//
//   node streams.mjs URL URL-WITHOUT-THUMBNAILS MEASURED-SECONDS DIRECTORY-FOR-SCREENSHOTS|''
import assert from 'node:assert/strict'
import { startBrowser } from './browser.mjs'
import { awaitPicture, checkPage, cpuTime, openConsole } from './consolepage.mjs'

const [url, plain, measured, shots] = process.argv.slice(2)
const browser = await startBrowser()
const faults = []
const markup = '<b id="injected" onclick="alert(1)">Main</b> & <script>alert(2)</script>'

const page = await openConsole(browser, url, faults, { viewport: { width: 1400, height: 2400 } })
const cards = page.locator('a.card')
const players = page.locator('livego-player')
const card = (room) => cards.filter({ has: page.getByText(room, { exact: true }) })
const button = (name) => page.getByRole('button', { name, exact: true })
const dialog = page.getByRole('dialog')

// shownKey returns the stream key that the page shows.
async function shownKey() {
  await button('Show the key').click()
  const key = page.getByTestId('key').filter({ hasText: /^[0-9A-Za-z]{48}$/ })
  await key.waitFor()
  return key.innerText()
}

async function listAndPreview() {
  await page.waitForFunction(() => document.querySelectorAll('a.card').length === 30)
  await page.waitForFunction(() => document.querySelectorAll('a.card img').length === 30, undefined,
    { timeout: 300_000 }) // one ffmpeg at a time, at a low priority
  let pictures = 0 // of one room
  page.on('response', (r) => { if (r.ok() && r.url().includes('/live/room01.jpg')) pictures++ })
  const [before, since] = [await cpuTime(), Date.now()]
  await new Promise((resolve) => setTimeout(resolve, Number(measured) * 1000))
  const elapsed = (Date.now() - since) / 1000
  const cores = (await cpuTime() - before) / elapsed
  assert.ok(pictures <= 1 + elapsed / 10, `${pictures} pictures of a room in ${elapsed} s, one in 10 s is enough`)
  assert.equal(await players.count(), 0)
  for (const room of ['room01', 'room02', 'room17']) { // room02 is private
    await card(room).hover()
    await awaitPicture(page)
    assert.equal(await players.count(), 1, 'one preview at a time')
    assert.match(await players.getAttribute('src'), new RegExp(`/live/${room}$`))
  }
  const player = await players.elementHandle()
  for (let n = 0; n < 2; n++) await page.waitForResponse((response) => response.url().includes('/api/v1/streams?'))
  assert.ok(await player.evaluate((p) => p.isConnected), 'a preview plays on when the list is loaded again')
  await page.getByRole('heading', { name: 'Streams' }).hover()
  await page.waitForFunction(() => !document.querySelector('livego-player'))
  await card('room03').focus()
  await awaitPicture(page)
  await checkPage(page, 'streams', shots)
  await page.getByRole('searchbox').fill('ROOM1')
  assert.equal(await cards.count(), 10)
  await page.getByRole('searchbox').fill('<b>')
  await page.getByText('No stream matches the search.').waitFor()
  await page.getByRole('searchbox').fill('')
  return cores
}

async function streamPage() {
  await card('room02').click()
  await page.getByRole('heading', { name: 'room02', level: 1 }).waitFor()
  await page.getByText('Private', { exact: true }).waitFor()
  await awaitPicture(page)
  await page.locator('figure canvas').nth(2).waitFor()
  await page.getByText('H.264').waitFor()
  await page.getByRole('img', { name: /WebSocket-FLV [1-9]/ }).waitFor() // the player on this page
  await page.getByRole('button', { name: 'Copy: Stream key' }).click()
  await page.getByRole('status').filter({ hasText: 'Copied' }).waitFor()
  const copied = await page.evaluate(() => navigator.clipboard.readText())
  assert.doesNotMatch(await page.locator('main').innerText(), new RegExp(copied), 'copied, and not shown')
  const key = await shownKey()
  assert.equal(copied, key)
  await button('Hide the key').click()
  assert.doesNotMatch(await page.locator('main').innerText(), new RegExp(key))
  for (const tab of ['GStreamer', 'livego push', 'ffmpeg']) {
    await page.getByRole('tab', { name: tab, exact: true }).click()
    const code = page.getByRole('tabpanel').first().locator('pre').first()
    assert.doesNotMatch(await code.innerText(), new RegExp(key), 'hidden until asked')
    await page.getByRole('tabpanel').first().getByRole('button', { name: /^Copy/ }).first().click()
    assert.match(await page.evaluate(() => navigator.clipboard.readText()), new RegExp(`rtmp://.*/live/${key}`))
  }
  await button('Make a link').click()
  await page.getByText('These addresses are valid until').waitFor()
  const address = await page.getByRole('link', { name: /token=/ }).getAttribute('href')
  const answer = await page.request.get(address.replace('?', '.m3u8?'))
  assert.equal(answer.status(), 200, 'the link plays')
  await page.keyboard.press('Tab')
  await page.getByRole('tab', { name: 'Addresses' }).focus()
  await page.keyboard.press('ArrowRight')
  await page.getByText('allow="autoplay; fullscreen; picture-in-picture"').waitFor()
  await page.keyboard.press('ArrowRight')
  await page.getByRole('img', { name: /QR code of http/ }).waitFor()
  await checkPage(page, 'stream', shots)
  await page.getByRole('combobox', { name: 'Theme' }).selectOption('Dark')
  await checkPage(page, 'stream-dark', shots)
  await page.getByRole('combobox', { name: 'Language' }).selectOption('中文')
  await page.getByRole('heading', { name: '最近十分钟' }).waitFor()
  assert.equal(await page.evaluate(() => document.documentElement.lang), 'zh-CN')
  await checkPage(page, 'stream-zh', shots)
  await page.getByRole('combobox', { name: '语言' }).selectOption('English')
  await page.getByRole('combobox', { name: 'Theme' }).selectOption('System')
  return key
}

async function buttons(key) {
  await button('End the stream').click()
  await dialog.getByRole('button', { name: 'Cancel' }).click()
  assert.equal(await page.getByText('Live', { exact: true }).count(), 1, 'a question that is not answered does nothing')
  await button('Reset the key').click()
  await dialog.getByRole('button', { name: 'Reset the key' }).click()
  await page.getByText('The room has a new key.').waitFor()
  await page.getByText('Interrupted', { exact: true }).waitFor() // the publisher used the old key
  await page.getByRole('tab', { name: 'OBS' }).click()
  assert.notEqual(await shownKey(), key)
  await button('End the stream').click()
  await dialog.getByRole('button', { name: 'End the stream' }).click()
  await page.getByText('Offline', { exact: true }).waitFor()
  await checkPage(page, 'stream-offline', shots)
  await button('Delete the room').click()
  await page.keyboard.press('Escape')
  await dialog.waitFor({ state: 'detached' })
  await button('Delete the room').click()
  await dialog.getByRole('button', { name: 'Delete the room' }).click()
  await page.getByText('The room room02 was deleted.').waitFor()
}

async function rooms() {
  await page.getByRole('heading', { name: 'Rooms', level: 1 }).waitFor()
  await page.getByRole('row', { name: /room03/ }).waitFor()
  assert.equal(await page.getByRole('link', { name: 'room02', exact: true }).count(), 0)
  await button('New room').click()
  await dialog.getByLabel('Name').fill('a/b')
  await dialog.getByRole('button', { name: 'Create' }).click()
  await dialog.getByText(/room name/).waitFor() // the reason of the API
  await dialog.getByLabel('Name').fill('a'.repeat(128))
  await dialog.getByLabel('Description').fill(markup)
  await dialog.getByRole('button', { name: 'Create' }).click()
  await page.getByText(markup).waitFor()
  await checkPage(page, 'room-long-name', shots)
  await page.getByRole('link', { name: 'Rooms' }).click()
  const row = page.getByRole('row', { name: /aaaaaa/ })
  await row.getByText(markup).waitFor()
  await row.getByRole('button', { name: /^Change the description/ }).click()
  await dialog.getByLabel('Description').fill(`${markup} 2`)
  await dialog.getByRole('button', { name: 'Save' }).click()
  await row.getByText(`${markup} 2`).waitFor()
  assert.equal(await page.locator('#injected').count(), 0)
  await page.getByRole('button', { name: 'Room', exact: true }).click()
  await page.getByRole('columnheader', { name: 'Room', exact: true }).and(page.locator('[aria-sort=ascending]')).waitFor()
  await page.getByRole('searchbox').fill('injected')
  assert.equal(await page.getByRole('row').count(), 2) // with the head
  await checkPage(page, 'rooms', shots)
  await row.getByRole('button', { name: /^Delete the room/ }).click()
  await dialog.getByRole('button', { name: 'Delete the room' }).click()
  await page.getByText(/was deleted/).first().waitFor()
  await row.waitFor({ state: 'detached' })
}

async function phone() {
  const small = await openConsole(browser, `${url}#/streams/live/room04`, faults,
    { viewport: { width: 360, height: 740 }, locale: 'zh-CN', colorScheme: 'dark', hasTouch: true, isMobile: true })
  await small.getByRole('heading', { name: '轨道' }).waitFor()
  await awaitPicture(small)
  await checkPage(small, 'stream-phone', shots)
  await small.getByRole('button', { name: '菜单' }).click()
  await small.getByRole('link', { name: '房间', exact: true }).click()
  await small.getByText('room05').waitFor()
  await checkPage(small, 'rooms-phone', shots)
  await small.getByRole('button', { name: '菜单' }).click()
  await small.getByRole('link', { name: '直播流', exact: true }).click()
  await small.locator('a.card').first().waitFor()
  await checkPage(small, 'streams-phone', shots)
  await small.close()
}

async function withoutThumbnails() {
  const other = await openConsole(browser, plain, faults)
  await other.locator('a.card img').waitFor() // a still of a player
  await other.waitForFunction(() => !document.querySelector('livego-player'))
  assert.doesNotMatch(other.url(), /jwt/)
  for (const name of ['Start a stream', 'Tokens', 'Settings']) {
    assert.equal(await other.getByRole('link', { name }).count(), 0, `${name} needs another role`)
  }
  await other.locator('a.card').click()
  await awaitPicture(other)
  await other.getByText('This stream was published without a stream key.').waitFor()
  for (const name of ['End the stream', 'Reset the key', 'Delete the room', 'Show the key']) {
    assert.equal(await other.getByRole('button', { name }).count(), 0, `${name} needs another role`)
  }
  await other.getByRole('link', { name: 'Rooms' }).click()
  await other.getByText('There are no rooms').waitFor()
  assert.equal(await other.getByRole('button', { name: 'New room' }).count(), 0)
  await other.close()
}

const cores = await listAndPreview()
await buttons(await streamPage())
await rooms()
await phone()
await withoutThumbnails()
assert.deepEqual(faults, [])
console.log(JSON.stringify({ cores }))
await browser.close()
