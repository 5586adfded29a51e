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
  await control('reset', { room })
}

/** Makes a request to /control, and returns its data. */
async function control(action: 'get' | 'reset', parameters: Record<string, string>): Promise<string> {
  const answer = await fetch(`${base}/control/${action}`, {
    method: 'POST', body: new URLSearchParams(parameters),
    headers: { 'X-CSRF-Token': session.server?.csrf_token ?? '' },
  })
  const { data = '' } = await answer.json() as { data?: string }
  if (!answer.ok) throw new APIError(answer.status, { detail: data } as Problem)
  return data
}

/** Returns the default key of a room, for one app or for every app. */
export async function defaultKey(room: string, app?: string): Promise<string> {
  if (!app) return keyOf(room)
  return control('get', { room, app })
}
