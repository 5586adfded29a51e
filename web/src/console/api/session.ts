// The session of this browser.
import { session } from '../lib/session.svelte.ts'
import { attempt, base, client, dataOf } from './client.ts'

/** Loads who uses the console, and what the server offers. */
export async function loadSession(): Promise<void> {
  await logInByAddress()
  session.server = await dataOf(client.GET('/api/v1/server'))
}

// Opens a session for a JWT in the address of the page, /?jwt=T, and removes the JWT from there.
async function logInByAddress() {
  const url = new URL(location.href)
  const credential = url.searchParams.get('jwt')
  if (!credential) return
  await fetch(`${base}/login`, { method: 'POST', body: new URLSearchParams({ credential }), redirect: 'manual' })
  url.searchParams.delete('jwt')
  history.replaceState(null, '', url)
}

/** Ends the session, and shows the login page. */
export async function logOut(): Promise<void> {
  const out = await attempt(async () => {
    const answer = await fetch(`${base}/logout`, {
      method: 'POST', body: new URLSearchParams({ csrf_token: session.server?.csrf_token ?? '' }), redirect: 'manual',
    })
    if (answer.type !== 'opaqueredirect') throw new Error(`HTTP ${answer.status}`)
  })
  if (out) location.reload()
}
