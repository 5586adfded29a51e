import { expect, test } from 'vitest'
import { type Event, initial, next } from './machine.ts'
import { Measures } from './measures.ts'

// measure sends events at these times, in ms, to a player that may use two protocols.
function measure(...events: [number, Event][]): Measures {
  const measures = new Measures()
  let state = initial(['ws', 'hls'])
  for (const [now, event] of events) {
    const [after] = next(state, event)
    measures.observe(state, after, now)
    state = after
  }
  return measures
}

test('Measures', () => {
  const lost: Event = { type: 'ended', reason: 'network' }
  expect(measure(
    [1000, { type: 'start' }], [1400, { type: 'playing' }], [5000, { type: 'stalled' }], [5600, { type: 'playing' }],
    [6000, { type: 'stalled' }], [6100, lost], [7000, { type: 'timer' }], [7001, lost], [8000, { type: 'timer' }],
    [8300, { type: 'playing' }],
  )).toMatchObject({ startTime: 400, stalls: 2, stallTime: 700, errors: 2, switches: 1 })
})

test('Measures do not count the wait for a publisher', () => {
  expect(measure(
    [0, { type: 'start' }], [100, { type: 'silent' }], [60_000, { type: 'playing' }],
    [90_000, { type: 'ended', reason: 'offline' }],
  )).toMatchObject({ startTime: undefined, stalls: 0, stallTime: 0, errors: 0, switches: 0 })
})

test('Measures start again with the player', () => {
  expect(measure(
    [0, { type: 'start' }], [100, { type: 'playing' }], [200, { type: 'stalled' }], [300, { type: 'stop' }],
    [1000, { type: 'start' }], [1050, { type: 'playing' }],
  )).toMatchObject({ startTime: 50, stalls: 0, stallTime: 0 })
})

test('Measures know when media arrives too slowly', () => {
  const stall = (...times: number[]): [number, Event][] =>
    times.flatMap((t): [number, Event][] => [[t, { type: 'stalled' }], [t + 1000, { type: 'playing' }]])
  const events = (...times: number[]) => measure([0, { type: 'start' }], [100, { type: 'playing' }], ...stall(...times))
  expect(events(1000, 5000).slow(6000)).toBe(false)
  expect(events(1000, 5000, 9000).slow(9000)).toBe(true)
  expect(events(1000, 5000, 9000).slow(31_000)).toBe(false)
  expect(events(1000, 20_000, 40_000).slow(40_000)).toBe(false)
  expect(events(1000, 20_000, 25_000, 40_000).slow(40_000)).toBe(true)
  expect(measure([0, { type: 'start' }], [100, { type: 'playing' }], ...stall(1000, 5000), [9000, { type: 'stalled' }],
    [10_000, { type: 'silent' }]).slow(10_000)).toBe(false) // the publisher was lost
  expect(measure([0, { type: 'start' }], [100, { type: 'playing' }], ...stall(1000, 5000, 9000),
    [10_000, { type: 'stop' }], [11_000, { type: 'start' }]).slow(11_000)).toBe(false)
})
