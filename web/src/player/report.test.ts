import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { type Event, initial, next, type State } from './machine.ts'
import { type Playback, Reporter, reportOf } from './report.ts'

const stream = 'wss://tv.example:7443/live/movie.flv?token=T'
let sent: URL[] = []
let status = 204
let playback: Playback

beforeEach(() => {
  vi.useFakeTimers()
  sent = []
  status = 204
  playback = { stalls: 0, stallTime: 0, switches: 0, frames: 0, dropped: 0 }
  vi.stubGlobal('fetch', (address: string, options: RequestInit) => {
    expect(options).toMatchObject({ keepalive: true, credentials: 'omit' })
    sent.push(new URL(address))
    return status === 0 ? Promise.reject(new Error('offline')) : Promise.resolve({ status })
  })
})

afterEach(() => {
  vi.useRealTimers()
  vi.unstubAllGlobals()
})

// A player with a reporter, which connects when the state machine says so.
function player() {
  const reporter = new Reporter(() => playback)
  let state: State = initial(['ws', 'hls'])
  let address = ''
  return {
    reporter,
    address: () => new URL(address),
    do(event: Event) {
      const [after, actions] = next(state, event)
      reporter.observe(state, after, event)
      state = after
      for (const action of actions) if (action.type === 'connect') address = reporter.addressOf(stream)
    },
  }
}

const texts = () => sent.map((url) => url.searchParams.get('CMCD') ?? '')

test('reportOf', () => {
  expect(reportOf('S', {
    startTime: 0.4123, stalls: 2, stallTime: 1.5, switches: 1, behind: 0.83, frames: 750, dropped: 3,
  }, ['network', 'unplayable'])).toBe('bsa=(2),bsda=(1500),dfa=3,ec=("network" "unplayable"),livego-frames=750,' +
    'livego-switches=1,ltc=830,msd=412,sid="S",v=2')
  const nothing = { stalls: 0, stallTime: 0, switches: 0, frames: 0, dropped: 0 }
  expect(reportOf('S', nothing, [])).toBe('bsa=(0),bsda=(0),dfa=0,livego-frames=0,livego-switches=0,sid="S",v=2')
  expect(reportOf('S', nothing, [], { stalls: 2, stallTime: 1.5, switches: 1, frames: 750, dropped: 3 }))
    .toContain('livego-before=(2 1500 3 750 1)')
})

test('a player reports at the first picture, then every 30 to 40 s, and at the end', async () => {
  const p = player()
  p.do({ type: 'start' })
  expect(p.address().searchParams.get('token')).toBe('T')
  const sid = p.address().searchParams.get('CMCD')
  expect(sid).toMatch(/^sid="[0-9a-f]{32}"$/)
  expect(sent).toHaveLength(0)
  p.do({ type: 'playing' })
  expect(sent).toHaveLength(1)
  expect(sent[0]?.origin + (sent[0]?.pathname ?? '')).toBe('https://tv.example:7443/.livego/report')
  expect(texts()[0]).toContain(sid)
  await vi.advanceTimersByTimeAsync(29_000)
  expect(sent).toHaveLength(1)
  await vi.advanceTimersByTimeAsync(12_000)
  expect(sent).toHaveLength(2)
  p.do({ type: 'stop' })
  p.reporter.send() // the page is closed
  expect(sent).toHaveLength(3)
  await vi.advanceTimersByTimeAsync(120_000)
  expect(sent).toHaveLength(3)
  p.do({ type: 'start' })
  expect(p.address().searchParams.get('CMCD')).not.toBe(sid)
})

test('the end of a stall is reported, and many stalls are not many reports', async () => {
  const p = player()
  p.do({ type: 'start' })
  p.do({ type: 'playing' })
  for (let i = 0; i < 20; i++) {
    await vi.advanceTimersByTimeAsync(1000)
    playback.stalls++
    p.do({ type: 'stalled' })
    p.do({ type: 'playing' })
  }
  expect(sent.length).toBeGreaterThan(2)
  expect(sent.length).toBeLessThan(6)
  expect(texts().at(-1)).toContain('bsa=(20)')
})

test('errors are reported once, with the next connection', async () => {
  const p = player()
  p.do({ type: 'start' })
  p.do({ type: 'playing' })
  await vi.advanceTimersByTimeAsync(10_000)
  p.do({ type: 'ended', reason: 'network' })
  p.do({ type: 'timer' })
  p.do({ type: 'ended', reason: 'unplayable' })
  p.do({ type: 'playing' })
  p.do({ type: 'ended', reason: 'offline' })
  expect(texts().at(-1)).toContain('ec=("network" "unplayable")')
  p.reporter.send()
  expect(texts().at(-1)).not.toContain('ec=')
})

test('a report says what was counted before the last connection, once a report was accepted', async () => {
  const p = player()
  p.do({ type: 'start' })
  status = 0
  p.do({ type: 'playing' })
  playback = { stalls: 1, stallTime: 2, switches: 0, frames: 100, dropped: 4 }
  await vi.advanceTimersByTimeAsync(10_000)
  const again = async () => {
    p.do({ type: 'ended', reason: 'network' })
    p.do({ type: 'timer' })
    p.do({ type: 'playing' })
    p.reporter.send()
    await vi.advanceTimersByTimeAsync(10_000)
  }
  await again() // no server has counted anything
  expect(texts().at(-1)).not.toContain('before')
  status = 204
  await again()
  expect(texts().at(-1)).not.toContain('before')
  playback = { ...playback, frames: 50, dropped: 0 }
  await again()
  expect(texts().at(-1)).toContain('livego-before=(1 2000 4 150 0)')
  playback = { ...playback, stalls: 2 }
  p.reporter.send()
  expect(texts().at(-1)).toMatch(/bsa=\(2\).*livego-before=\(1 2000 4 150 0\)/)
  p.do({ type: 'stop' })
  await vi.advanceTimersByTimeAsync(0)
  p.do({ type: 'start' })
  p.do({ type: 'playing' })
  expect(texts().at(-1)).not.toContain('before')
})

test('a server that wants no report gets none before the next connection', async () => {
  const p = player()
  p.do({ type: 'start' })
  status = 410
  p.do({ type: 'playing' })
  await vi.advanceTimersByTimeAsync(120_000)
  p.reporter.send()
  expect(sent).toHaveLength(1)
  p.do({ type: 'ended', reason: 'network' })
  p.do({ type: 'timer' })
  status = 0 // a report that is lost is followed by others
  p.do({ type: 'playing' })
  await vi.advanceTimersByTimeAsync(40_000)
  expect(sent).toHaveLength(3)
})

test('a player that waits for a publisher reports nothing', async () => {
  const p = player()
  p.do({ type: 'start' })
  p.do({ type: 'playing' })
  p.do({ type: 'ended', reason: 'offline' })
  await vi.advanceTimersByTimeAsync(120_000)
  expect(sent).toHaveLength(1)
})

test('frames are those of all connections', () => {
  const p = player()
  p.do({ type: 'start' })
  for (const [frames, dropped] of [[100, 1], [300, 2], [50, 1], [60, 1]] as const) {
    playback = { ...playback, frames, dropped }
    p.reporter.send()
  }
  expect(texts().at(-1)).toContain('dfa=3,livego-frames=360')
})
