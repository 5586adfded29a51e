import { expect, test } from 'vitest'
import { addSamples, type Sample, viewerLines } from './history.ts'

const sample = (second: number, viewers: Record<string, number> = {}) =>
  ({ at: new Date(second * 1000).toISOString(), viewers_by_protocol: viewers }) as unknown as Sample

test('newer samples are added once, and ten minutes are kept', () => {
  const old = Array.from({ length: 599 }, (_, i) => sample(i))
  const all = addSamples(old, [sample(597), sample(598), sample(599), sample(600), sample(601)])
  expect(all.length).toBe(600)
  expect(all[0]?.at).toBe(sample(2).at)
  expect(all.at(-1)?.at).toBe(sample(601).at)
  expect(new Set(all.map((s) => s.at)).size).toBe(600)
})

test('each protocol that has had viewers has a line, the largest first', () => {
  const samples = [sample(1, { hls: 3 }), sample(2), sample(3, { ws: 7, hls: 1 })]
  expect(viewerLines(samples, (p) => p.toUpperCase())).toEqual([
    { label: 'WS', values: [0, 0, 7] }, { label: 'HLS', values: [3, 0, 1] },
  ])
})
