// Has the console open while the server is killed and started again. It prints to standard error what it has seen: the
// keys of the server, that the server does not answer, and that it does again.
//
//   node reconnect.mjs URL
import assert from 'node:assert/strict'
import { startBrowser } from './browser.mjs'
import { openConsole } from './consolepage.mjs'

const [url] = process.argv.slice(2)
const browser = await startBrowser()
const faults = []
const page = await openConsole(browser, `${url}#/keys`, faults)
const room = (name) => page.getByRole('row').filter({ hasText: name })
const lost = page.getByRole('alert').filter({ hasText: 'The server does not answer. The console tries again.' })
await room('before').waitFor()
assert.equal(await lost.count(), 0)
console.error('shown')
await lost.waitFor()
assert.equal(await room('before').count(), 1, 'what was loaded stays')
assert.equal(await page.getByRole('alert').count(), 1, 'one message for all requests')
console.error('lost')
await room('after').waitFor()
await lost.waitFor({ state: 'detached' })
assert.deepEqual(faults, [])
await browser.close()
