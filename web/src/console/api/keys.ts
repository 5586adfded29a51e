// The stream key of a room that is valid in every app.
import { APIError, type Problem } from './error.ts'
import { base, client, dataOf } from './client.ts'
import { session } from '../lib/session.svelte.ts'

/** Returns the key of a room. If the room does not exist, it is created. */
export async function keyOf(room: string, description?: string): Promise<string> {
  const created = await dataOf(client.PUT('/api/v1/rooms/{room}', {
    params: { path: { room } }, ...(description !== undefined && { body: { description } }),
  }))
  return created.key ?? ''
}

/** Makes a new key for a room. The old one is not valid any more, and its publisher is disconnected. */
export async function resetKey(room: string): Promise<void> {
  const answer = await fetch(`${base}/control/reset`, {
    method: 'POST', body: new URLSearchParams({ room }),
    headers: { 'X-CSRF-Token': session.server?.csrf_token ?? '', 'Accept': 'application/problem+json' },
  })
  if (answer.ok) return
  const { data } = await answer.json() as { data?: string }
  throw new APIError(answer.status, { detail: data } as Problem)
}
