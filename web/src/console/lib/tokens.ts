// Tokens by which the console itself plays private streams.
import { client, dataOf } from '../api/client.ts'
import { session } from './session.svelte.ts'

const validFor = 60 // minutes
const renewBefore = 5

interface Cached {
  token: Promise<string>
  until: number // Unix ms
}

const cache = new Map<string, Cached>()

/** Reports whether the console can play a stream: it is public, or the console may make a token for it. */
export function canPlay(isPrivate: boolean): boolean {
  return !isPrivate || (session.may('operate') && session.server?.features.tokens === true)
}

/** Returns a token to play a stream, '' if it needs none. */
export async function playToken(app: string, room: string, isPrivate: boolean): Promise<string> {
  if (!isPrivate) return ''
  const name = `${app}/${room}`
  const known = cache.get(name)
  if (known && known.until > Date.now()) return known.token
  const token = dataOf(client.POST('/api/v1/tokens', { body: { action: 'play', app, room, for: `${validFor}m` } }))
    .then((made) => made.token)
  cache.set(name, { token, until: Date.now() + (validFor - renewBefore) * 60_000 })
  token.catch(() => cache.delete(name))
  return token
}
