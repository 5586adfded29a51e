// Errors of the API.
import { connection } from '../lib/connection.svelte.ts'
import { textsOf } from '../lib/preferences.svelte.ts'
import { reasonOf } from '../lib/reasons.svelte.ts'
import { common } from '../text/common.ts'
import type { components } from './schema.ts'

/** The problem details of RFC 9457 that the API answers with. */
export type Problem = components['schemas']['ErrorModel']

/** A request that the API refused, with the API's reason as message. */
export class APIError extends Error {
  readonly status: number
  readonly problem: Problem | undefined

  constructor(status: number, problem: Problem | undefined) {
    const details = problem?.errors?.map((e) => e.message).filter(Boolean) ?? []
    super([problem?.detail ?? problem?.title ?? `HTTP ${status}`, ...details].join('\n'))
    this.status = status
    this.problem = problem
  }
}

/** Returns what an error says: in Chinese what kind of refusal it is, then the sentence of the API. */
export function messageOf(err: unknown): string {
  if (err instanceof APIError) return [reasonOf('statuses', err.status), err.message].filter(Boolean).join('\n')
  if (connection.lost) return textsOf(common).noAnswer
  return err instanceof Error ? err.message : String(err)
}
