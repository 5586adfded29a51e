// Logs in to the console by the admin token and by JWTs, and attacks it from pages of other ports.
//
//   node access.mjs URL ADMIN-TOKEN JWT-SECRET DIRECTORY-FOR-SCREENSHOTS|''
import assert from 'node:assert/strict'
import { createHmac } from 'node:crypto'
import { createServer } from 'node:http'
import { startBrowser } from './browser.mjs'
import { checkPage, openConsole } from './consolepage.mjs'

const [url, token, secret, shots] = process.argv.slice(2)
const browser = await startBrowser()
const faults = []

// Returns a JWT that is valid for so many seconds.
function sign(role, seconds) {
  const encode = (part) => Buffer.from(JSON.stringify(part)).toString('base64url')
  const text = `${encode({ alg: 'HS256' })}.${encode({ role, exp: Math.floor(Date.now() / 1000) + seconds })}`
  return `${text}.${createHmac('sha256', secret).update(text).digest('base64url')}`
}

async function logIn(credential) {
  const page = await openConsole(browser, url, faults)
  await page.fill('#credential', credential)
  await page.press('#credential', 'Enter')
  return page
}

const status = (page, path, options) => page.evaluate(([p, o]) => fetch(p, o).then((r) => r.status), [path, options])
const key = async (page) => page.evaluate(async () => {
  const { csrf_token } = await fetch('api/v1/server').then((r) => r.json())
  const room = await fetch('api/v1/rooms/movie', {
    method: 'PUT', headers: { 'X-CSRF-Token': csrf_token, 'Content-Type': 'application/json' }, body: '{}',
  }).then((r) => r.json())
  return room.key
})

// The login page is in the language of the browser or in the one that was chosen, there or in the console.
async function loginPage() {
  const page = await openConsole(browser, url, faults,
    { locale: 'zh-CN', colorScheme: 'dark', viewport: { width: 360, height: 640 } })
  await page.getByRole('heading', { name: '登录' }).waitFor()
  await checkPage(page, 'login-phone-dark-zh', shots)
  await page.fill('#credential', 'guess')
  await page.press('#credential', 'Enter')
  await page.getByRole('alert').filter({ hasText: '凭据无效' }).waitFor()
  await checkPage(page, 'login-wrong-phone-dark-zh', shots)
  await page.getByRole('link', { name: 'English' }).click()
  await page.getByRole('heading', { name: 'Log in' }).waitFor()
  await page.emulateMedia({ colorScheme: 'light' })
  await checkPage(page, 'login-phone-light', shots)
  await page.fill('#credential', token)
  await page.press('#credential', 'Enter')
  await page.getByRole('button', { name: 'Menu' }).click()
  await page.getByLabel('Language').selectOption('zh')
  await page.getByRole('button', { name: '退出登录' }).click()
  await page.getByRole('heading', { name: '登录' }).waitFor()
  await page.context().close()
}

// A reader sees every page that reads, without the buttons that change something, which the server refuses too.
async function readOnly() {
  const page = await logIn(sign('read', 600))
  for (const [name, id] of Object.entries({
    Sessions: 'sessions', Relays: 'relays', Recordings: 'recordings', Keys: 'keys', Events: 'events', Server: 'server',
  })) {
    await page.goto(`${url}#/${id}`)
    await page.getByRole('heading', { name, level: 1 }).waitFor()
    const names = /^(New|Disconnect|Delete|Rotate|Revoke|Show the key|Reload|Make)/
    assert.equal(await page.locator('main').getByRole('button', { name: names }).count(), 0, name)
    assert.equal(await page.locator('main input[type=checkbox]').count(), 0, name)
  }
  await checkPage(page, 'server-reader', shots)
  for (const id of ['tokens', 'settings']) {
    await page.goto(`${url}#/${id}`)
    await page.getByText('This needs the role').waitFor()
  }
  const { csrf_token } = await page.evaluate(() => fetch('api/v1/server').then((r) => r.json()))
  const headers = { 'X-CSRF-Token': csrf_token, 'Content-Type': 'application/json' }
  assert.equal(await status(page, 'api/v1/rooms/x', { method: 'PUT', headers, body: '{}' }), 403)
  assert.equal(await status(page, 'api/v1/sessions/1', { method: 'DELETE', headers }), 403)
  assert.equal(await status(page, 'control/reset?room=movie', { method: 'POST', headers }), 403)
  await page.context().close()
}

// A JWT in the address logs in, and leaves it. When the session ends, the console shows the login page by itself.
async function expiry() {
  const open = (seconds) => openConsole(browser, `${url}?jwt=${sign('operate', seconds)}#/relays`, faults)
  const page = await open(600)
  await page.getByRole('heading', { name: 'Relays', level: 1 }).waitFor()
  await page.waitForFunction(() => location.search === '')
  assert.equal(await page.evaluate(() => document.cookie), '', 'scripts cannot read the cookie')
  const cookies = await page.context().cookies()
  assert.equal(cookies.length, 1)
  assert.deepEqual([cookies[0].httpOnly, cookies[0].sameSite], [true, 'Strict'])
  await page.context().close()
  for (let seconds = 3, shown = false; !shown; seconds *= 2) { // a busy machine shows the page too late for a short session
    const short = await open(seconds)
    await short.locator('#credential, #console h1').first().waitFor()
    shown = await short.locator('#console h1').count() > 0
    await short.locator('#credential').waitFor()
    await short.context().close()
  }
}

// Errors of the server, and a server that is away, are shown. The console recovers by itself.
async function errors(page) {
  await page.goto(`${url}#/relays`)
  await page.getByText('There are no relays.').waitFor()
  const problem = (code, detail) => (route) => route.fulfill({
    status: code, contentType: 'application/problem+json', body: JSON.stringify({ status: code, detail }),
  })
  for (const [code, detail] of [[500, 'internal <b>error</b>'], [403, 'not enough rights']]) {
    await page.route('**/api/v1/relays*', problem(code, detail))
    await page.getByRole('alert').getByText(detail).waitFor()
    await page.unroute('**/api/v1/relays*')
    await page.getByRole('alert').waitFor({ state: 'detached' })
  }
  await page.context().setOffline(true)
  await page.getByText('The server does not answer.').first().waitFor()
  await checkPage(page, 'lost', shots)
  await page.context().setOffline(false)
  await page.getByText('The server does not answer.').waitFor({ state: 'detached' })
  await page.getByRole('button', { name: 'New relay' }).click()
  await page.route('**/api/v1/relays', problem(500, 'out of luck'))
  await page.getByRole('dialog').getByLabel('Room').fill('movie')
  await page.getByRole('dialog').getByLabel('Push to').fill('rtmp://192.0.2.1/live/x')
  await page.getByRole('dialog').getByRole('button', { name: 'New relay' }).click()
  await page.getByRole('dialog').getByText('out of luck').waitFor()
  await page.unroute('**/api/v1/relays')
  await page.getByRole('dialog').getByRole('button', { name: 'Cancel' }).click()
}

// Pages of another port of this host are same-site: the browser sends them the cookie of the console.
async function attacks(page) {
  const before = await key(page)
  const server = createServer((_, response) => response.setHeader('Content-Type', 'text/html').end('<p>other'))
  await new Promise((done) => server.listen(0, '127.0.0.1', done))
  const other = await page.context().newPage()
  await other.goto(`http://127.0.0.1:${server.address().port}/`)
  const blocked = await other.evaluate((target) => new Promise((done) => {
    const frame = document.createElement('iframe')
    frame.onload = () => done(frame.contentDocument === null || frame.contentDocument.body?.innerHTML === '')
    frame.src = target
    document.body.append(frame)
  }), url)
  assert.ok(blocked)
  await other.waitForFunction(() => document.querySelector('iframe'))
  assert.equal(await other.frames()[1].locator('#console').count().catch(() => 0), 0, 'the console is not framed')
  const outcomes = await other.evaluate(async (base) => {
    const tries = [
      ['control/reset?room=movie', { method: 'POST' }], ['control/reset?room=movie', {}],
      ['control/delete?room=movie', { method: 'POST', body: new URLSearchParams({ room: 'movie' }) }],
      ['api/v1/rooms/movie', { method: 'DELETE' }], ['logout', { method: 'POST' }],
    ]
    const results = []
    for (const [path, options] of tries) {
      const answer = fetch(base + path, { credentials: 'include', mode: 'no-cors', ...options })
      results.push(await answer.then((r) => r.type, () => 'failed'))
    }
    results.push(await fetch(`${base}api/v1/server`, { credentials: 'include' }).then(() => 'read', () => 'failed'))
    return results
  }, url)
  assert.equal(outcomes.at(-1), 'failed', 'no page of another origin reads the CSRF token')
  const form = await other.evaluate((target) => {
    document.body.innerHTML = `<form method="post" action="${target}control/reset"><input name="room" value="movie"></form>`
    document.forms[0].submit()
  }, url)
  assert.equal(form, undefined)
  await other.waitForURL(`${url}control/reset`)
  assert.match(await other.innerText('body'), /another site/)

  // A page of another port sets cookies of the same name.
  const name = (await page.context().cookies())[0].name
  await other.goto(`http://127.0.0.1:${server.address().port}/`)
  await other.evaluate((n) => {
    document.cookie = `${n}=${'x'.repeat(48)}; path=/api`
    document.cookie = `${n}=y; path=/api/v1`
  }, name)
  assert.equal(await status(page, 'api/v1/server'), 200, 'the session stays open')
  assert.equal(await key(page), before, 'nothing has changed')
  server.close()
  await other.close()
}

async function logOut(page) {
  await page.getByRole('button', { name: 'Log out' }).click()
  await page.locator('#credential').waitFor()
  assert.equal(await status(page, 'api/v1/server'), 401)
}

await loginPage()
await readOnly()
await expiry()
const page = await logIn(token)
await page.getByRole('navigation').waitFor()
for (const part of [errors, attacks, logOut]) {
  try {
    await part(page)
  } catch (err) {
    if (shots) await page.screenshot({ path: `${shots}/failed.png`, fullPage: true })
    throw new Error(`${part.name}: ${err.message}`, { cause: err })
  }
}
assert.deepEqual(faults.filter((f) => !f.includes('frame-ancestors')), [])
console.log('{}')
await browser.close()
