// Opens the console in Chromium for a test, and checks what every page of it must keep.
import assert from 'node:assert/strict'
import { readFile, readdir } from 'node:fs/promises'
import { createRequire } from 'node:module'
import path from 'node:path'
import { chromium } from 'playwright-core'

const axe = await readFile(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8')

/** Starts a browser. It ends with this program. */
export async function startBrowser() {
  const browser = await chromium.launch({
    executablePath: '/usr/bin/chromium',
    args: ['--no-sandbox', '--disable-dev-shm-usage'],
  })
  process.on('SIGTERM', () => browser.close().then(() => process.exit(1)))
  return browser
}

/**
 * Opens a page of the console. Errors of the page, breaches of its policy, and requests to other hosts go to faults.
 * Dialogs of scripts are faults too: they come from markup in names.
 */
export async function openConsole(browser, url, faults, options = {}) {
  const context = await browser.newContext({
    viewport: { width: 1280, height: 800 }, locale: 'en-GB', permissions: ['clipboard-read', 'clipboard-write'], ...options,
  })
  const page = await context.newPage()
  page.setDefaultTimeout(60_000)
  const host = new URL(url).hostname
  page.on('pageerror', (err) => faults.push(String(err)))
  page.on('dialog', (dialog) => {
    faults.push(`dialog: ${dialog.message()}`)
    dialog.dismiss()
  })
  page.on('console', (message) => {
    if (/Content Security Policy|TypeError|svelte/i.test(message.text())) faults.push(message.text())
  })
  page.on('request', (request) => {
    const { protocol, hostname } = new URL(request.url())
    if (!['blob:', 'data:'].includes(protocol) && hostname !== host) faults.push(`request to ${request.url()}`)
  })
  await page.goto(url)
  return page
}

/** Checks that axe has no serious finding, and that nothing is wider than the page. */
export async function checkPage(page, name, shots) {
  if (shots) await page.screenshot({ path: path.join(shots, `${name}.png`), fullPage: true })
  await page.evaluate(axe) // by the debugger, which the policy of the page does not bind
  const { violations } = await page.evaluate(() => window.axe.run(document, { resultTypes: ['violations'] }))
  const serious = violations.filter((v) => v.impact === 'serious' || v.impact === 'critical')
  assert.deepEqual(serious.map((v) => `${v.id}: ${v.nodes.map((n) => `${n.html} ${n.failureSummary}`).join('; ')}`), [],
    `accessibility of ${name}`)
  const wider = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth)
  assert.ok(wider <= 0, `${name} is ${wider} pixels wider than the window`)
}

/** Returns the CPU time of all processes of the browser so far, in s. */
export async function cpuTime() {
  const parents = new Map()
  const times = new Map()
  for (const pid of await readdir('/proc')) {
    if (!/^\d+$/.test(pid)) continue
    const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '')
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    parents.set(Number(pid), Number(fields[1]))
    times.set(Number(pid), (Number(fields[11]) + Number(fields[12])) / 100)
  }
  let sum = 0
  for (const pid of times.keys()) {
    let of = parents.get(pid)
    while (of && of !== process.pid) of = parents.get(of)
    if (of === process.pid) sum += times.get(pid)
  }
  return sum
}

/** Waits until a video of the page, also one in a player, has shown pictures for so long, in s. */
export async function awaitPicture(page, seconds = 0.5) {
  await page.waitForFunction((s) => {
    const video = document.querySelector('livego-player')?.shadowRoot.querySelector('video')
    return video && video.videoWidth > 0 && video.currentTime > s
  }, seconds)
}
