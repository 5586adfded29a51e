// The list of events that a page shows.
import type { components } from '../api/schema.ts'

export type ServerEvent = components['schemas']['Event']

/** The kinds of events: the first words of their types. */
export const kinds = ['denied', 'stream', 'viewer', 'relay', 'recording', 'finding', 'config', 'server'] as const
export type Kind = (typeof kinds)[number]

/** Returns the kind of an event; undefined for one that this console does not know. */
export function kindOf(event: ServerEvent): Kind | undefined {
  return kinds.find((k) => k === event.type.split('.', 1)[0])
}

/** Returns the events of both lists, each once, the newest first, at most so many. */
export function merge(a: readonly ServerEvent[], b: readonly ServerEvent[], most: number): ServerEvent[] {
  const byID = new Map([...a, ...b].map((e) => [e.id, e]))
  return [...byID.values()].sort((x, y) => y.id - x.id).slice(0, most)
}

/** Returns the facts of an event that depend on its type, as texts. A count of zero is none. */
export function factsOf(event: ServerEvent): string[] {
  return Object.entries(event.fields ?? {}).filter(([, value]) => value !== 0)
    .map(([name, value]) => `${name}: ${String(value)}`)
}
