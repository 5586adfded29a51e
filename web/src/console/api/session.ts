// The session of this browser.
import { attempt, base } from './client.ts'
import { APIError } from './error.ts'
import { session, type SessionInfo } from '../lib/session.svelte.ts'

/** Loads who uses the console, and what the server offers. */
export async function loadSession(): Promise<void> {
  const answer = await fetch(`${base}/api/v1/session`)
  if (!answer.ok) throw new APIError(answer.status, undefined)
  session.set(await answer.json() as SessionInfo)
}

/** Ends the session, and shows the login page. */
export async function logOut(): Promise<void> {
  const out = await attempt(async () => {
    const answer = await fetch(`${base}/logout`, {
      method: 'POST', body: new URLSearchParams({ csrf_token: session.csrf }), redirect: 'manual',
    })
    if (answer.type !== 'opaqueredirect') throw new Error(`HTTP ${answer.status}`)
  })
  if (out) location.reload()
}
