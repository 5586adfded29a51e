// Starts Chromium for a test, and finds what no page may do.
import { readFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { chromium } from 'playwright-core'

/**
 * Starts a browser with these arguments and options of Playwright beside the usual ones. It ends with this program. It is
 * Chromium without a user interface, whose pages and processes start in a fourth of the processor time.
 */
export async function startBrowser(args = [], options = {}) {
  const browser = await chromium.launch({
    executablePath: '/usr/bin/chromium-headless-shell', args: ['--no-sandbox', '--disable-dev-shm-usage', ...args], ...options,
  })
  process.on('SIGTERM', () => browser.close().then(() => process.exit(1)))
  return browser
}

/**
 * Opens a page in a context of its own, with these options of Playwright. What it waits for has two minutes, since the
 * machine may be busy; the test that runs the program has a shorter limit, which does not count the time without a
 * processor.
 */
export async function openPage(browser, options = {}) {
  const context = await browser.newContext(options)
  context.setDefaultTimeout(120_000)
  return context.newPage()
}

/**
 * Adds to faults the errors of a page, breaches of its policy, and requests to another host than that of url: a host of
 * another name, or also the same on another port if part is 'host'.
 */
export function watchFaults(page, url, faults, part = 'host') {
  const add = (fault) => faults.push(`${url}: ${fault}`)
  const check = (address) => {
    const target = new URL(address)
    if (!['blob:', 'data:'].includes(target.protocol) && target[part] !== new URL(url)[part]) add(`request to ${address}`)
  }
  page.on('pageerror', add)
  page.on('console', (message) => {
    if (/Content Security Policy|TypeError|svelte/i.test(message.text())) add(message.text())
  })
  page.on('request', (request) => check(request.url()))
  page.on('websocket', (socket) => check(socket.url()))
}

/** Returns the serious and critical findings of axe-core in a page. */
export async function accessibilityFindings(page) {
  if (!await page.evaluate(() => !!window.axe)) {
    // by the debugger, which the policy of the page does not bind
    await page.evaluate(await readFile(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8'))
  }
  const { violations } = await page.evaluate(() => window.axe.run(document, { resultTypes: ['violations'] }))
  return violations.filter((v) => v.impact === 'serious' || v.impact === 'critical')
    .map((v) => `${v.id}: ${v.nodes.map((n) => `${n.html} ${n.failureSummary}`).join('; ')}`)
}
