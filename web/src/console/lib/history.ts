// The last ten minutes of a stream, as charts need them.
import type { components } from '../api/schema.ts'

export type Sample = components['schemas']['StreamSample']

const length = 600 // samples, one a second

/** Returns the samples, and those that are newer, without the ones that are too old. */
export function addSamples(samples: readonly Sample[], newer: readonly Sample[]): Sample[] {
  const last = samples.at(-1)?.at ?? ''
  return [...samples, ...newer.filter((s) => s.at > last)].slice(-length)
}

/** A line of a chart. Where a value is null, the line has a gap. */
export interface Line {
  label: string
  values: (number | null)[]
}

/** Returns the times of samples, in Unix seconds. */
export function timesOf(samples: readonly Sample[]): number[] {
  return samples.map((s) => Date.parse(s.at) / 1000)
}

/** Returns one line for each protocol that has had viewers, with the most first. */
export function viewerLines(samples: readonly Sample[], nameOf: (protocol: string) => string): Line[] {
  const most: Record<string, number> = {}
  for (const sample of samples) {
    for (const [protocol, n] of Object.entries(sample.viewers_by_protocol ?? {})) {
      most[protocol] = Math.max(n, most[protocol] ?? 0)
    }
  }
  const protocols = Object.keys(most).sort((a, b) => (most[b] ?? 0) - (most[a] ?? 0) || a.localeCompare(b))
  return protocols.map((protocol) => ({
    label: nameOf(protocol), values: samples.map((s) => s.viewers_by_protocol?.[protocol] ?? 0),
  }))
}
