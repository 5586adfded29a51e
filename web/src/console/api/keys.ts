// The stream keys of rooms.
import { APIError, type Problem } from './error.ts'
import { type API, base, client, dataOf } from './client.ts'
import { session } from '../lib/session.svelte.ts'

/** Returns the key of a room that is valid in every app. If the room does not exist, it is created. */
export async function keyOf(room: string, description?: string): Promise<string> {
  const created = await dataOf(client.PUT('/api/v1/rooms/{room}', {
    params: { path: { room } }, ...(description !== undefined && { body: { description } }),
  }))
  return created.key ?? ''
}

/** Replaces a key by a new one. The old one is not valid any more, and its publisher is disconnected. */
export function resetKey({ id = '' }: API<'Key'>): Promise<API<'Key'>> {
  return dataOf(client.POST('/api/v1/keys/{id}/rotate', { params: { path: { id } } }))
}

/** Returns the default key of a room, for one app or for every app. */
export async function defaultKey(room: string, app?: string): Promise<string> {
  if (!app) return keyOf(room)
  const answer = await fetch(`${base}/control/get`, { // there is no other route that returns the key of one app
    method: 'POST', body: new URLSearchParams({ room, app }),
    headers: { 'X-CSRF-Token': session.server?.csrf_token ?? '' },
  })
  const { data = '' } = await answer.json() as { data?: string }
  if (!answer.ok) throw new APIError(answer.status, { detail: data } as Problem)
  return data
}
