// Uses the pages of the console that manage a server: sessions, relays, recordings, events, settings, keys, tokens and
// the server itself. The server has a stream live/movie with viewers whose name looks like markup, and records.
//
//   node operations.mjs URL RTMP-URL-OF-ANOTHER-SERVER RTMP-URL-OF-NO-SERVER DIRECTORY-FOR-SCREENSHOTS|''
import assert from 'node:assert/strict'
import { startBrowser } from './browser.mjs'
import { checkPage, openConsole } from './consolepage.mjs'

const [url, other, dead, shots] = process.argv.slice(2)
const browser = await startBrowser()
const faults = []
const markup = '<b id="injected" onclick="alert(1)">x</b>'
const page = await openConsole(browser, url, faults)
const button = (name) => page.getByRole('button', { name, exact: true })
const dialog = page.getByRole('dialog')
const row = (text) => page.getByRole('row').filter({ hasText: text })
const rows = () => page.locator('tbody tr')
const copied = () => page.evaluate(() => navigator.clipboard.readText())
const check = (name) => checkPage(page, name, shots)
const message = (text) => page.getByRole('status').getByText(text).first().waitFor()
const api = (path, options) => page.evaluate(([p, o]) => fetch(p, o).then((r) => r.json()), [path, options])

async function show(name) {
  await page.getByRole('navigation').getByRole('link', { name, exact: true }).click()
  await page.getByRole('heading', { name, level: 1 }).waitFor()
}

async function sessions() {
  await show('Sessions')
  await row(markup).nth(2).waitFor()
  assert.equal(await page.locator('#injected').count(), 0)
  await check('sessions')
  await page.getByRole('combobox', { name: 'Kind' }).selectOption('Publishers')
  await page.waitForFunction(() => document.querySelectorAll('tbody tr').length === 1)
  await row('Publisher').getByText('RTMP', { exact: true }).waitFor()
  await page.getByRole('combobox', { name: 'Kind' }).selectOption('All sessions')
  await page.getByRole('combobox', { name: 'Protocol' }).selectOption('HLS')
  await page.getByText('No session matches these filters.').waitFor()
  await page.getByRole('combobox', { name: 'Protocol' }).selectOption('All protocols')
  await page.getByRole('textbox', { name: 'Address or network' }).fill('no address')
  await page.keyboard.press('Enter')
  await page.getByRole('alert').getByText('neither an address nor a network').waitFor()
  await page.getByRole('textbox', { name: 'Address or network' }).fill('127.0.0.0/8')
  await page.keyboard.press('Enter')
  await page.getByRole('alert').waitFor({ state: 'detached' })
  await page.getByRole('textbox', { name: 'Room' }).fill('nobody')
  await page.keyboard.press('Enter')
  await page.getByText('No session matches these filters.').waitFor()
  await page.getByRole('textbox', { name: 'Room' }).fill('')
  await page.keyboard.press('Enter')
  await row(markup).first().waitFor()
  await page.getByRole('button', { name: 'Kind', exact: true }).click()
  await page.locator('th[aria-sort=ascending]').getByText('Kind').waitFor()
  await rows().first().getByText('Publisher').waitFor()
  await button('Kind').click()
  await rows().first().getByText('Viewer').waitFor()

  // One viewer, then two at a time.
  const first = row(`${markup} 1`)
  await first.getByRole('button', { name: /^Disconnect 127/ }).click()
  await dialog.getByRole('button', { name: 'Cancel' }).click()
  assert.equal(await first.count(), 1)
  await first.getByRole('button', { name: /^Disconnect 127/ }).click()
  await dialog.getByRole('button', { name: 'Disconnect', exact: true }).click()
  await message('1 session is disconnected.')
  await first.waitFor({ state: 'detached' })
  await page.getByRole('searchbox').fill(markup)
  await page.getByRole('checkbox', { name: 'Select all that are shown' }).check()
  await button('Disconnect 2 sessions').click()
  await dialog.getByText('Disconnect 2 sessions?').waitFor()
  await dialog.getByRole('button', { name: 'Disconnect', exact: true }).click()
  await message('2 sessions are disconnected.')
  await page.getByText('Nothing matches the search.').waitFor()
}

async function relays() {
  await show('Relays')
  await page.getByText('There are no relays.').waitFor()
  await button('New relay').click()
  await check('relay-new')
  await dialog.getByRole('button', { name: 'New relay' }).click()
  await dialog.getByText('The URL must start with rtmp://').waitFor()
  await dialog.getByLabel('Room').fill('movie')
  await dialog.getByLabel('Push to').fill('rtmp://no host')
  await dialog.getByText('The URL must start with rtmp://').waitFor()
  await dialog.getByLabel('Push to').fill('ftp://127.0.0.1/live/x')
  await dialog.getByText('The URL must start with rtmp://').waitFor()
  await dialog.getByLabel('Push to').fill('rtmp://192.0.2.1/live/x')
  await dialog.getByLabel('Room').fill('movie.flv') // a name that the server refuses
  await dialog.getByRole('button', { name: 'New relay' }).click()
  await dialog.getByRole('alert').waitFor()
  await dialog.getByLabel('Room').fill('movie')
  await dialog.getByLabel('Push to').fill(other)
  await dialog.getByLabel('Start again when the server restarts').uncheck()
  await dialog.getByRole('button', { name: 'New relay' }).click()
  await message('The relay is created.')
  await row('Push').getByText('Running').waitFor()
  await row('Push').getByText('Until a restart').waitFor()
  assert.doesNotMatch(await page.locator('main').innerText(), /secretkey/, 'the key of the other server is not shown')

  await button('New relay').click()
  await dialog.getByRole('radio', { name: 'Pull' }).check()
  await dialog.getByLabel('Room').fill('pulled')
  await dialog.getByLabel('Pull from').fill(dead)
  await dialog.getByLabel('Pull from').press('Enter')
  await row('Pull').getByText('Retrying').waitFor()
  await row('Pull').getByText(/refused/).waitFor()
  await check('relays')
  await row('Pull').getByRole('button', { name: /^Delete the relay/ }).click()
  await page.keyboard.press('Escape')
  await dialog.waitFor({ state: 'detached' })
  assert.equal(await row('Pull').count(), 1)
  for (const direction of ['Pull', 'Push']) {
    await row(direction).getByRole('button', { name: /^Delete the relay/ }).click()
    await dialog.getByRole('button', { name: 'Delete', exact: true }).click()
    await row(direction).waitFor({ state: 'detached' })
  }
}

async function recordings() {
  await show('Recordings')
  const running = row('live/movie').filter({ hasText: 'Recording' })
  await running.waitFor()
  assert.equal(await running.getByRole('button', { name: /^Delete/ }).count(), 0, 'a file that is being written')
  const finished = row('live/done')
  await finished.getByText('Finished').waitFor()
  await check('recordings')
  await finished.getByRole('button', { name: /^Play/ }).click()
  const time = () => page.locator('dialog video').evaluate((v) => v.currentTime)
  await page.waitForFunction(() => {
    const v = document.querySelector('dialog video')
    return v && v.videoWidth > 0 && v.currentTime > 0.3
  })
  await check('recording')
  const length = await page.locator('dialog video').evaluate((v) => v.duration)
  assert.ok(length > 3, `the file lasts ${length} s`)
  await page.locator('dialog video').evaluate((v) => { v.currentTime = v.duration - 1 })
  await page.waitForFunction(() => {
    const v = document.querySelector('dialog video')
    return v.currentTime > v.duration - 0.9 || v.ended
  })
  await page.locator('dialog video').evaluate((v) => { v.currentTime = 0.2; return v.play() })
  await page.waitForFunction(() => {
    const v = document.querySelector('dialog video')
    return v.currentTime > 0.3 && v.currentTime < 2
  })
  assert.ok(await time() < 2)
  await dialog.getByRole('button', { name: 'Close' }).click()
  const [download] = await Promise.all([
    page.waitForEvent('download'), finished.getByRole('link', { name: /^Download/ }).click(),
  ])
  assert.match(download.suggestedFilename(), /^done_\d+\.flv$/)
  await page.getByRole('combobox', { name: 'State' }).selectOption('Unfinished')
  await page.getByText('No recording matches these filters.').waitFor()
  await page.getByRole('combobox', { name: 'State' }).selectOption('All states')
  await page.getByLabel('To', { exact: true }).fill('2020-01-01')
  await page.getByText('No recording matches these filters.').waitFor()
  await page.getByLabel('To', { exact: true }).fill('')
  await page.getByRole('textbox', { name: 'Room' }).fill('done')
  await page.keyboard.press('Enter')
  await running.waitFor({ state: 'detached' })
  await finished.getByRole('button', { name: /^Delete/ }).click()
  await dialog.getByRole('button', { name: 'Cancel' }).click()
  await finished.getByRole('button', { name: /^Delete/ }).click()
  await dialog.getByRole('button', { name: 'Delete', exact: true }).click()
  await message('The recording is deleted.')
  await finished.waitFor({ state: 'detached' })
}

async function events() {
  await show('Events')
  const item = (text) => page.getByRole('listitem').filter({ hasText: text })
  await item('Recording deleted').waitFor()
  await item('Viewer left').first().waitFor()
  await check('events')
  await button('Refusals').click()
  await item('Recording deleted').waitFor({ state: 'detached' })
  await button('Refusals').click()
  await page.getByRole('textbox', { name: 'Room' }).fill('done')
  await page.keyboard.press('Enter')
  await item('live/movie').first().waitFor({ state: 'detached' })
  await page.getByRole('textbox', { name: 'Room' }).fill('')
  await page.keyboard.press('Enter')

  // As they happen: a relay is made by another client.
  await button('Pause').click()
  const made = await api('api/v1/relays', {
    method: 'POST', headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify({ direction: 'pull', app: 'live', room: 'shown', url: dead }),
  })
  await page.getByText(/new events?$/).waitFor()
  assert.equal(await item('live/shown').count(), 0, 'paused')
  await button('Resume').click()
  await item('live/shown').first().waitFor()
  await page.evaluate((id) => fetch(`api/v1/relays/${id}`, { method: 'DELETE' }), made.id)
  await item('Relay stopped').filter({ hasText: 'live/shown' }).waitFor()
}

async function settings() {
  await show('Settings')
  const field = (key) => page.getByLabel(key, { exact: true })
  await field('relay_max').waitFor()
  assert.ok(await field('data_dir').isDisabled())
  assert.ok(await field('flv_archive').isDisabled(), 'a flag sets it')
  const index = page.getByRole('navigation', { name: 'Groups of settings' })
  await index.getByRole('link', { name: /^HLS/ }).focus()
  await page.keyboard.press('Enter')
  await page.waitForFunction(() => document.activeElement?.textContent === 'HLS') // the next Tab is its first setting
  await index.locator('[aria-current]').getByText('HLS').waitFor()
  await page.keyboard.press('Tab')
  assert.ok(await field('hls_segment').evaluate((e) => e === document.activeElement))
  await page.getByRole('searchbox').fill('relay_max')
  await page.waitForFunction(() => document.querySelectorAll('.setting').length === 1)
  await field('relay_max').fill('-1')
  await button('Check and review').click()
  await page.getByText(/must be at least 0/).waitFor()
  assert.equal(await field('relay_max').getAttribute('aria-invalid'), 'true')
  await page.getByRole('searchbox').fill('hls')
  await button('Check and review').click()
  await page.waitForFunction(() => document.activeElement?.getAttribute('aria-invalid')) // although it was not shown
  await page.getByRole('combobox', { name: 'Which settings' }).selectOption('All settings')
  await check('settings-error')
  await field('relay_max').fill('20')
  await page.getByRole('searchbox').fill('')
  await field('http_idle_timeout').fill('50s')
  await field('hls_keep_after_end').check()
  await field('takeover').selectOption('always')
  await field('private').fill('live/secret\nlive/other')
  await field('gop_num').fill('7')
  await field('gop_num').fill('1') // as it was
  await page.getByText('5 changes').waitFor()
  await button('Check and review').click()
  await dialog.getByRole('row', { name: /relay_max 100 20 at once/ }).waitFor()
  await dialog.getByRole('row', { name: /http_idle_timeout 1m 50s after a restart/ }).waitFor()
  await check('settings-review')
  await dialog.getByRole('button', { name: 'Save' }).click()
  await message('After a restart of the server: http_idle_timeout')
  const now = async () => Object.fromEntries((await api('api/v1/settings')).settings.map((s) => [s.key, s]))
  const saved = await now()
  assert.equal(saved.relay_max.value, 20)
  assert.equal(saved.takeover.value, 'always')
  assert.equal(saved.hls_keep_after_end.value, true)
  assert.deepEqual(saved.private.value, ['live/secret', 'live/other'])
  assert.equal(saved.http_idle_timeout.pending, '50s')
  await page.getByRole('combobox', { name: 'Which settings' }).selectOption('Not the default')
  await page.getByText('Needs a restart').waitFor()
  await check('settings')
  for (const key of ['relay_max', 'takeover']) {
    await page.getByRole('button', { name: `${key}: use the value of the file again` }).click()
  }
  await button('Discard').click()
  await page.getByRole('button', { name: 'relay_max: use the value of the file again' }).click()
  await button('Check and review').click()
  await dialog.getByRole('button', { name: 'Save' }).click()
  await message('The settings are saved.')
  assert.equal((await now()).relay_max.value, 100)
  await button('Reload').click()
  await message('The settings are loaded again.')
}

async function keys() {
  await show('Keys')
  await button('New key').click()
  await dialog.getByRole('button', { name: 'New key' }).click()
  await dialog.getByText('Letters, digits, dots').waitFor()
  await dialog.getByLabel('Room').fill('movie')
  await dialog.getByLabel('Expires').fill('2020-01-01T00:00')
  await dialog.getByText('A key that expires needs a label.').waitFor()
  await dialog.getByText('The time must be in the future.').waitFor()
  await dialog.getByLabel('Label').fill(markup)
  await dialog.getByLabel('Expires').fill('2099-01-01T00:00')
  await dialog.getByLabel('Role').selectOption('Backup')
  await dialog.getByRole('button', { name: 'New key' }).click()
  await dialog.getByRole('alert').getByText('injected').waitFor() // the server refuses the label, which is shown as text
  assert.equal(await page.locator('#injected').count(), 0)
  await dialog.getByLabel('Label').fill('camera-2')
  await dialog.getByRole('button', { name: 'New key' }).click()
  await dialog.getByText('This is the only time').waitFor()
  assert.doesNotMatch(await dialog.innerText(), /[0-9A-Za-z]{48}/, 'hidden until asked')
  await dialog.getByRole('button', { name: /^Show:/ }).click()
  const made = (await dialog.innerText()).match(/[0-9A-Za-z]{48}/)[0]
  await dialog.getByRole('button', { name: /^Copy: stream key/ }).click()
  assert.equal(await copied(), made)
  await check('key-made')
  await dialog.getByRole('button', { name: 'Done', exact: true }).click()
  assert.doesNotMatch(await page.locator('body').innerHTML(), new RegExp(made))
  await row('camera-2').getByText('Backup').waitFor()
  await check('keys')

  await row('camera-2').getByRole('button', { name: /^Reset/ }).click()
  await dialog.getByRole('button', { name: 'Reset', exact: true }).click()
  await dialog.getByRole('button', { name: /^Show:/ }).click()
  const reset = (await dialog.innerText()).match(/[0-9A-Za-z]{48}/)[0]
  assert.notEqual(reset, made)
  await dialog.getByRole('button', { name: 'Done', exact: true }).click()
  await row('camera-2').getByRole('button', { name: /^Revoke/ }).click()
  await dialog.getByRole('button', { name: 'Cancel' }).click()
  await row('camera-2').getByRole('button', { name: /^Revoke/ }).click()
  await dialog.getByRole('button', { name: 'Revoke', exact: true }).click()
  await message('The key is revoked.')
  await row('camera-2').waitFor({ state: 'detached' })

  const fallback = row('done')
  await fallback.getByRole('button', { name: /^Show the key/ }).click()
  await dialog.getByRole('button', { name: /^Show:/ }).click()
  const shown = (await dialog.innerText()).match(/[0-9A-Za-z]{48}/)[0]
  assert.equal(shown, (await api('control/get?room=done')).data)
  await dialog.getByRole('button', { name: 'Done', exact: true }).click()
}

async function tokens() {
  await show('Tokens')
  await button('Make token').click()
  await page.getByText('Letters, digits, dots').waitFor()
  await page.getByLabel('Room').fill('movie')
  await button('Make token').click()
  await page.getByText('live/movie is public').waitFor()
  await page.getByLabel('Room').fill('secret')
  await page.getByLabel('Valid for').selectOption('Another time')
  await page.getByLabel('Time', { exact: true }).fill('1 hour')
  await button('Make token').click()
  await page.getByText('A number with a unit').waitFor()
  await page.getByLabel('Time', { exact: true }).fill('2h')
  await page.getByLabel('Viewers at a time').fill('2')
  await page.getByLabel('Valid once').check()
  await button('Make token').click()
  await page.getByText('live/movie is public').waitFor({ state: 'detached' })
  await page.getByRole('img', { name: /^QR code of/ }).waitFor()
  await check('tokens')
  await page.getByRole('button', { name: 'Copy: HLS' }).click()
  const link = await copied()
  assert.match(link, /\/live\/secret\.m3u8\?token=.+/)
  const claims = JSON.parse(atob(link.split('token=')[1].split('.')[1].replaceAll('-', '+').replaceAll('_', '/')))
  assert.equal(claims.room, 'secret')
  await page.getByRole('button', { name: 'Copy: Player page' }).click()
  assert.match(await copied(), /\/live\/secret\?token=/)
  assert.match(await page.getByRole('link', { name: 'Open: Player page' }).getAttribute('href'), /\/live\/secret\?token=/)
  await page.getByText('More limits').click()
  await page.getByLabel('Only from this address').fill('not an address')
  await button('Make token').click()
  await page.getByRole('alert').waitFor()
  await page.getByLabel('Only from this address').fill('')
  await page.getByRole('radio', { name: 'Publish' }).check()
  await page.getByLabel('Room').fill('done')
  await page.getByLabel('Valid once').uncheck()
  await button('Make token').click()
  await page.getByRole('button', { name: 'Copy: Stream key (OBS)' }).click()
  assert.match(await copied(), /^done\?token=/)
}

async function server() {
  await show('Server')
  await page.getByText('Ready', { exact: true }).waitFor()
  await page.getByText('Running for').waitFor()
  await page.getByRole('row', { name: /HTTP-FLV/ }).waitFor()
  await page.getByRole('button', { name: 'Copy: HLS' }).click()
  assert.match(await copied(), /^http:.*\/live\/\{room\}\.m3u8$/)
  await check('server')
  for (const link of ['Metrics for Prometheus', 'Description of the API (OpenAPI)', 'Health check']) {
    const { status } = await page.request.get(await page.getByRole('link', { name: link }).evaluate((a) => a.href))
      .then((r) => ({ status: r.status() }))
    assert.equal(status, 200, link)
  }
}

// In Chinese, on a phone, in the dark; and in the dark on a desktop.
async function elsewhere() {
  const names = ['sessions', 'relays', 'recordings', 'keys', 'tokens', 'events', 'settings', 'server']
  for (const [kind, options] of Object.entries({
    'phone-zh': {
      viewport: { width: 360, height: 740 }, locale: 'zh-CN', colorScheme: 'dark', isMobile: true, hasTouch: true,
    },
    'dark': { colorScheme: 'dark' },
  })) {
    const one = await openConsole(browser, url, faults, options)
    for (const name of names) {
      await one.goto(`${url}#/${name}`)
      await one.getByRole('heading', { level: 1 }).waitFor()
      if (name === 'settings') {
        const help = kind === 'dark' ? 'The maximum number of relays' : '最多同时运行多少个转推和拉流'
        await one.locator('.setting').filter({ hasText: 'relay_max' }).getByText(help).waitFor()
        if (kind === 'phone-zh') {
          await one.getByRole('combobox', { name: '设置的分组' }).selectOption({ label: '录像 (6)' })
          await one.waitForFunction(() => document.activeElement?.textContent === '录像')
          assert.match(one.url(), /section=recording$/)
        }
      }
      await checkPage(one, `${name}-${kind}`, shots)
      if (name === 'sessions' && kind === 'phone-zh') {
        await one.getByRole('textbox', { name: '地址或网段' }).fill('no address')
        await one.keyboard.press('Enter')
        await one.getByRole('alert').getByText(/请求无效\s+.*neither an address nor a network/).waitFor()
      }
    }
    const text = await one.locator('main').innerText()
    assert.ok(kind === 'dark' || /监听端口/.test(text), text)
    await one.context().close()
  }
}

for (const part of [sessions, relays, recordings, events, settings, keys, tokens, server, elsewhere]) {
  try {
    await part()
  } catch (err) {
    if (shots) await page.screenshot({ path: `${shots}/failed.png`, fullPage: true })
    throw new Error(`${part.name}: ${err.message}`, { cause: err })
  }
}
assert.deepEqual(faults, [])
console.log('{}')
await browser.close()
