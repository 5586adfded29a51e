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
