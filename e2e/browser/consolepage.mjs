// Opens the console in Chromium for a test, and checks what every page of it must keep.
import assert from 'node:assert/strict'
import { readFile, readdir } from 'node:fs/promises'
import path from 'node:path'
import { accessibilityFindings, openPage, watchFaults } from './browser.mjs'

/**
 * Opens a page of the console. Errors of the page, breaches of its policy, and requests to other hosts go to faults.
 * Dialogs of scripts are faults too: they come from markup in names.
 */
export async function openConsole(browser, url, faults, options = {}) {
  const page = await openPage(browser, {
    viewport: { width: 1280, height: 800 }, locale: 'en-GB', permissions: ['clipboard-read', 'clipboard-write'], ...options,
  })
  watchFaults(page, url, faults, 'hostname') // the player is on another port
  page.on('dialog', (dialog) => {
    faults.push(`dialog: ${dialog.message()}`)
    dialog.dismiss()
  })
  await page.goto(url)
  return page
}

/** Checks that axe has no serious finding, and that nothing is wider than the page. */
export async function checkPage(page, name, shots) {
  if (shots) await page.screenshot({ path: path.join(shots, `${name}.png`), fullPage: true })
  assert.deepEqual(await accessibilityFindings(page), [], `accessibility of ${name}`)
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
