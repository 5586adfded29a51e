import { describe, expect, test } from 'vitest'
import { type Action, type Event, initial, maxFailures, next, protocolOf, type Reason, type State, unreachable }
  from './machine.ts'

const ended = (reason: Reason): Event => ({ type: 'ended', reason })
const start: Event = { type: 'start' }
const playing: Event = { type: 'playing' }
const timer: Event = { type: 'timer' }

// run sends events to a player that may use all protocols. It returns the last state and the actions after the last
// event.
function run(...events: Event[]): [State, Action[]] {
  let state = initial(['ws', 'hls', 'native'])
  let actions: Action[] = []
  for (const event of events) [state, actions] = next(state, event)
  return [state, actions]
}

describe('next', () => {
  test('starts with the first protocol', () => {
    expect(run(start)).toEqual([
      expect.objectContaining({ phase: 'connecting' }), [{ type: 'connect', protocol: 'ws' }],
    ])
  })

  test('plays when data arrives, stalls, and plays on', () => {
    expect(run(start, playing)[0].phase).toBe('playing')
    expect(run(start, playing, { type: 'stalled' })[0].phase).toBe('stalled')
    expect(run(start, playing, { type: 'stalled' }, playing)[0].phase).toBe('playing')
  })

  test('tries the next protocol at once when one cannot play the stream', () => {
    const [state, actions] = run(start, ended('unplayable'))
    expect(actions).toEqual([{ type: 'connect', protocol: 'hls' }])
    expect(next(state, ended('unplayable'))[1]).toEqual([{ type: 'connect', protocol: 'native' }])
  })

  test('says that no protocol can play the stream, and looks again later', () => {
    const [state, actions] = run(start, ended('unplayable'), ended('unplayable'), ended('unplayable'))
    expect(state).toMatchObject({ phase: 'failed', reason: 'unplayable' })
    expect(actions).toEqual([{ type: 'wait', ms: 15_000 }])
    expect(next(state, timer)[1]).toEqual([{ type: 'connect', protocol: 'ws' }])
  })

  test('does not try a protocol again that is not served', () => {
    const [state, actions] = run(start, ended('unsupported'))
    expect(actions).toEqual([{ type: 'connect', protocol: 'hls' }])
    expect(next(next(state, ended('offline'))[0], timer)[1]).toEqual([{ type: 'connect', protocol: 'hls' }])
    let again = state
    for (let n = 0; n < maxFailures; n++) [again] = next(next(again, ended('network'))[0], timer)
    expect(protocolOf(again)).toBe('native')
    expect(next(again, start)[1]).toEqual([{ type: 'connect', protocol: 'ws' }])
  })

  test('says that no protocol is served, or that one cannot play the stream, and looks again later', () => {
    const [state] = run(start, ended('unsupported'), ended('unplayable'), ended('unsupported'))
    expect(state).toMatchObject({ phase: 'failed', reason: 'unplayable' })
    const [none, actions] = next(next(initial(['ws']), start)[0], ended('unsupported'))
    expect(none).toMatchObject({ phase: 'failed', reason: 'unsupported' })
    expect(actions).toEqual([{ type: 'wait', ms: 15_000 }])
    expect(next(none, timer)[1]).toEqual([{ type: 'connect', protocol: 'ws' }])
  })

  test('does not leave a protocol because the server does not answer at all', () => {
    let [state] = run(start, playing, ended('network'), timer)
    for (let n = 0; n < 10; n++) {
      [state] = next(next(state, { type: 'ended', reason: 'network', detail: unreachable })[0], timer)
      expect(protocolOf(state)).toBe('ws')
    }
  })

  test('retries a protocol that was served before', () => {
    const [state, actions] = run(start, playing, ended('network'), timer, ended('unsupported'))
    expect(protocolOf(state)).toBe('hls')
    expect(state.phase).toBe('retrying')
    expect(actions).toEqual([{ type: 'wait', ms: 1000 }])
  })

  test('waits for a publisher, and starts with the first protocol again', () => {
    const [state, actions] = run(start, ended('unplayable'), playing, ended('offline'))
    expect(state).toMatchObject({ phase: 'offline', reason: 'offline', unplayable: [] })
    expect(actions).toEqual([{ type: 'wait', ms: 2000 }])
    const [again, connect] = next(state, timer)
    expect(again.phase).toBe('offline')
    expect(connect).toEqual([{ type: 'connect', protocol: 'ws' }])
    expect(next(again, playing)[0]).not.toHaveProperty('reason')
  })

  test('waits for a publisher on an open connection', () => {
    const [state, actions] = run(start, { type: 'silent' })
    expect(state.phase).toBe('offline')
    expect(actions).toEqual([])
    expect(next(state, playing)[0].phase).toBe('playing')
  })

  test('retries after a loss of the network, with growing delays, by each protocol in turn', () => {
    let [state] = run(start)
    const waits: number[] = []
    const used: (string | undefined)[] = []
    for (let n = 0; n < 3 * maxFailures; n++) {
      used.push(protocolOf(state))
      const [lost, actions] = next(state, ended('network'))
      expect(lost.phase).toBe('retrying')
      for (const a of actions) if (a.type === 'wait') waits.push(a.ms)
      ;[state] = next(lost, timer)
    }
    expect(waits).toEqual([500, 1000, 2000, 4000, 8000, 8000])
    expect(used).toEqual(['ws', 'ws', 'hls', 'hls', 'native', 'native'])
    expect(protocolOf(state)).toBe('ws')
  })

  test('does not leave a protocol that played until its connection was lost', () => {
    const [state, actions] = run(start, ended('network'), timer, playing, ended('network'))
    expect(protocolOf(state)).toBe('ws')
    expect(actions).toEqual([{ type: 'wait', ms: 500 }])
  })

  test('skips protocols that cannot play the stream after a loss of the network', () => {
    let [state] = run(start, ended('unplayable'))
    for (let n = 0; n < maxFailures; n++) [state] = next(next(state, ended('network'))[0], timer)
    expect(protocolOf(state)).toBe('native')
    for (let n = 0; n < maxFailures; n++) [state] = next(next(state, ended('network'))[0], timer)
    expect(protocolOf(state)).toBe('hls')
  })

  test('stops when it is refused, until somebody starts it again', () => {
    const [state, actions] = run(start, ended('refused'))
    expect(state).toMatchObject({ phase: 'failed', reason: 'refused' })
    expect(actions).toEqual([{ type: 'disconnect' }])
    expect(next(state, start)[1]).toEqual([{ type: 'connect', protocol: 'ws' }])
  })

  test('connects again soon when the server asks for it', () => {
    expect(run(start, playing, ended('again'))[1]).toEqual([{ type: 'wait', ms: 500 }])
  })

  test('ignores what a stopped player reports', () => {
    for (const event of [playing, timer, ended('network'), { type: 'stalled' }, { type: 'silent' }] as Event[]) {
      expect(run(start, { type: 'stop' }, event)).toEqual([initial(['ws', 'hls', 'native']), []])
    }
  })

  test('fails at once when the browser can use no protocol', () => {
    expect(next(initial([]), start)[0]).toMatchObject({ phase: 'failed', reason: 'unplayable' })
  })
})
