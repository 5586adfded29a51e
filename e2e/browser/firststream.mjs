// Goes through the first visit to the console of an empty server: makes a room, runs the command that the page shows, and
// waits for the picture twice, by two encoders. Prints the times as JSON.
//
//   node firststream.mjs URL DIRECTORY-FOR-SCREENSHOTS|''
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { startBrowser } from './browser.mjs'
import { awaitPicture, checkPage, openConsole } from './consolepage.mjs'

const typing = 200 // ms that a person needs for a character

// run runs a command of the page until this program ends.
function run(command) {
  const child = spawn('sh', ['-c', `exec ${command}`], { stdio: ['ignore', 'ignore', 'inherit'] })
  child.unref() // it does not keep this program running
  process.on('exit', () => child.kill())
  return child
}

const [url, shots] = process.argv.slice(2)
const browser = await startBrowser()
const faults = []
const start = Date.now()
const page = await openConsole(browser, url, faults)
const other = await openConsole(browser, url, faults)
await page.getByRole('heading', { name: 'Your first stream' }).waitFor()
await other.getByRole('heading', { name: 'Your first stream' }).waitFor()
const room = page.getByLabel('Name of the room')
await room.pressSequentially('<img src=x onerror=alert(1)>')
await page.getByRole('button', { name: 'Create the room' }).click()
await page.getByText('room name').waitFor() // the reason of the API
await checkPage(page, 'first-1', shots)
await room.fill('')
await room.pressSequentially('movie', { delay: typing })
await page.keyboard.press('Enter')
await page.getByText('The room movie is ready.').waitFor()
assert.match(await page.getByTestId('key').innerText(), /^•+$/, 'the key is hidden')
await page.getByRole('tab', { name: 'ffmpeg' }).click()
await page.getByRole('button', { name: 'Show the key' }).click()
const command = await page.getByRole('region', { name: /^ffmpeg: A test picture/ }).innerText()
await checkPage(page, 'first-2', shots)
const encoder = run(command)
await page.getByText('You are live.').waitFor()
const live = Date.now() - start
await awaitPicture(page)
const picture = Date.now() - start
await checkPage(page, 'first-3', shots)
await other.locator('a.card').waitFor() // for a person who does not follow the steps
await other.close()
await page.getByRole('link', { name: 'Go to the stream' }).click()
await page.getByRole('heading', { name: 'movie', level: 1 }).waitFor()
await awaitPicture(page)
encoder.kill()
await page.getByText('Offline', { exact: true }).waitFor()
await page.getByRole('tab', { name: 'GStreamer' }).click()
await page.getByRole('button', { name: 'Show the key' }).click()
run(await page.getByRole('region', { name: /^GStreamer: / }).innerText())
await page.getByText('Live', { exact: true }).waitFor()
await page.getByText(/^GStreamer .* muxer$/).waitFor() // the encoder, by its metadata
assert.deepEqual(faults, [])
console.log(JSON.stringify({ live, picture }))
await browser.close()
