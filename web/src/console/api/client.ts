// The client of the API, whose types are generated from docs/openapi.json.
import createClient from 'openapi-fetch'
import { connection } from '../lib/connection.svelte.ts'
import { session } from '../lib/session.svelte.ts'
import { showError } from '../lib/toasts.svelte.ts'
import { APIError, type Problem } from './error.ts'
import type { components, paths } from './schema.ts'

/** A type of the API by its name. */
export type API<Name extends keyof components['schemas']> = components['schemas'][Name]

/** The address of the console, which a proxy may serve below a path. */
export const base = new URL('.', document.baseURI).href.replace(/\/$/, '')

export const client = createClient<paths>({ baseUrl: base })

client.use({
  onRequest({ request }) {
    const token = session.server?.csrf_token
    if (request.method !== 'GET' && token) request.headers.set('X-CSRF-Token', token)
    return request
  },
  onResponse({ response }) {
    connection.lost = false
    if (response.status === 401) location.reload() // the session is over: the server answers with the login page
  },
  onError({ request }) {
    if (!request.signal.aborted) connection.lost = true
  },
})

/** Returns the data of an answer. It throws an APIError if the API refused the request. */
export async function dataOf<T>(
  answer: Promise<{ data?: T, error?: unknown, response: Response }>,
): Promise<T> {
  const { data, error, response } = await answer
  if (!response.ok) throw new APIError(response.status, error as Problem | undefined)
  return data as T
}

/** Runs a request that a person has asked for. If it fails, it shows why and returns false. */
export async function attempt(request: () => Promise<unknown>): Promise<boolean> {
  try {
    await request()
    return true
  } catch (err) {
    showError(err)
    return false
  }
}
