// What a player does next, as a pure function: it knows neither the DOM nor a clock nor a library.

/** A way to play a stream, by the name that `?protocol=` and the API of the element use. */
export type Protocol = 'ws' | 'hls' | 'native'

/** All protocols, the one with the least delay first. */
export const protocols: readonly Protocol[] = ['ws', 'hls', 'native']

/** Why playing has ended or did not start. */
export type Reason =
  | 'offline' // nobody publishes
  | 'refused' // the token is missing or not valid
  | 'full' // too many viewers
  | 'again' // the server asks to connect again: the tracks of the stream have changed, or the server stops
  | 'unplayable' // the browser does not support the codecs, or the protocol does not carry them
  | 'unsupported' // the server, or a proxy before it, does not serve the stream by this protocol
  | 'network' // no connection, or it was lost

/** What a player does at the moment. */
export type Phase =
  | 'idle' // before the first start, or stopped
  | 'connecting' // no picture yet
  | 'playing'
  | 'stalled' // connected, but the picture stands still; the reason is offline while the publisher is lost
  | 'offline' // waits for a publisher
  | 'retrying' // waits before the next attempt
  | 'failed' // cannot play: see reason

/** The state of a player. It is never modified. */
export interface State {
  readonly phase: Phase
  readonly reason?: Reason // why it does not play
  readonly detail?: string // more about the reason: the code of a refusal, or the codecs
  readonly candidates: readonly Protocol[] // what this browser and page may use, the best first
  readonly current: number // index of the protocol in use
  readonly connected: boolean // an attempt is in progress
  readonly played: boolean // there was a picture or sound since the start
  readonly failures: number // attempts by this protocol without a picture, in a row
  readonly unplayable: readonly Protocol[] // protocols that cannot play the stream as it is now
  readonly unsupported: readonly Protocol[] // protocols that are not served
}

/** What happened to a player. */
export type Event =
  | { type: 'start' } // a person or the page wants to play
  | { type: 'stop' }
  | { type: 'playing' } // pictures or sound arrive
  | { type: 'stalled' }
  | { type: 'silent' } // connected, but no data arrives: the server waits for a publisher
  | { type: 'ended'; reason: Reason; detail?: string }
  | { type: 'timer' } // the delay that was asked for has passed

/** What to do after an event. */
export type Action =
  | { type: 'connect'; protocol: Protocol } // end the current attempt and start one by this protocol
  | { type: 'disconnect' }
  | { type: 'wait'; ms: number } // end the current attempt, and send the event timer after this time

/** How many attempts without a picture make a player try the next protocol. */
export const maxFailures = 2

/** The detail of a failure of the network in which the server has not answered at all. */
export const unreachable = 'unreachable'

const offlineWait = 2000 // ms between attempts while nobody publishes
const fullWait = 10_000 // ms, when the server or the token allows no more viewers
const unplayableWait = 15_000 // ms, until the encoder may have changed the codec, or the operator the settings
const firstWait = 500 // ms after the first loss of the network, doubled up to lastWait
const lastWait = 8000 // ms

/** Returns the state of a player before it starts. */
export function initial(candidates: readonly Protocol[]): State {
  return {
    phase: 'idle', candidates, current: 0, connected: false, played: false, failures: 0, unplayable: [],
    unsupported: [],
  }
}

/** Returns the protocol in use, or that of the next attempt. */
export function protocolOf(s: State): Protocol | undefined {
  return s.candidates[s.current]
}

/** Returns the state after an event, and what to do. */
export function next(s: State, event: Event): [State, Action[]] {
  switch (event.type) {
    case 'start':
      return connect(initial(s.candidates))
    case 'stop':
      return [initial(s.candidates), [{ type: 'disconnect' }]]
    case 'timer':
      return s.phase === 'idle' || s.connected ? [s, []] : connect(s)
    case 'playing':
      return s.connected ? [{ ...clear(s), phase: 'playing', played: true, failures: 0 }, []] : [s, []]
    case 'stalled':
      return s.phase === 'playing' ? [{ ...s, phase: 'stalled' }, []] : [s, []]
    case 'silent':
      if (s.phase === 'stalled') return [{ ...s, reason: 'offline' }, []]
      return s.connected && s.phase !== 'playing' ? [{ ...clear(s), phase: 'offline', reason: 'offline' }, []] : [s, []]
    case 'ended':
      return s.connected ? ended(s, event.reason, event.detail) : [s, []]
  }
}

// clear returns s without its reason.
function clear(s: State): State {
  const { phase, candidates, current, connected, played, failures, unplayable, unsupported } = s
  return { phase, candidates, current, connected, played, failures, unplayable, unsupported }
}

function connect(s: State): [State, Action[]] {
  const protocol = protocolOf(s)
  if (!protocol) return [{ ...s, phase: 'failed', reason: 'unplayable' }, []]
  // A player that waits, for a publisher or for another codec, goes on to say so until there is a picture.
  const waits = s.phase === 'offline' || s.phase === 'failed'
  const state: State = waits ? s : { ...clear(s), phase: 'connecting' }
  return [{ ...state, connected: true }, [{ type: 'connect', protocol }]]
}

function ended(s: State, reason: Reason, detail: string | undefined): [State, Action[]] {
  const because = (phase: Phase, changes: Partial<State> = {}): State =>
    ({ ...clear(s), connected: false, phase, reason, ...(detail && { detail }), ...changes })
  const wait = (state: State, ms: number): [State, Action[]] => [state, [{ type: 'wait', ms }]]
  const first = Math.max(0, s.candidates.findIndex((p) => !s.unsupported.includes(p)))
  const fromStart = { current: first, failures: 0, unplayable: [] }
  const protocol = protocolOf(s)
  switch (reason) {
    case 'offline': // the next stream may have other codecs
      return wait(because('offline', fromStart), offlineWait)
    case 'refused':
      return [because('failed'), [{ type: 'disconnect' }]]
    case 'full':
      return wait(because('failed'), fullWait)
    case 'again':
      return wait(because('retrying', fromStart), firstWait)
    case 'unsupported':
      if (s.played) return ended(s, 'network', detail) // it was served before: the server may have just started again
      return without({ ...s, unsupported: protocol ? [...s.unsupported, protocol] : s.unsupported }, reason)
    case 'unplayable': {
      const known = detail ?? s.detail // one protocol may know the codecs, another not
      const unplayable = protocol ? [...s.unplayable, protocol] : s.unplayable
      return without({ ...s, unplayable, ...(known && { detail: known }) }, reason)
    }
    case 'network': {
      const failures = s.phase === 'playing' || s.phase === 'stalled' ? 1 : s.failures + 1
      const ms = Math.min(firstWait * 2 ** (failures - 1), lastWait)
      const usable = usableOf(s)
      const stays = failures % maxFailures !== 0 || usable.length < 2 || detail === unreachable // so are the others
      if (stays) return wait(because('retrying', { failures }), ms)
      const following = usable[(usable.findIndex((p) => p === protocol) + 1) % usable.length]
      const current = s.candidates.findIndex((p) => p === following)
      return wait(because('retrying', { current, failures }), ms)
    }
  }
}

// usableOf returns the protocols that can play the stream, as far as is known.
function usableOf({ candidates, unplayable, unsupported }: State): Protocol[] {
  return candidates.filter((p) => !unplayable.includes(p) && !unsupported.includes(p))
}

// without returns what follows after a protocol has proved useless for this reason: an attempt by the next one at once,
// or else a while later by the first one.
function without(s: State, reason: Reason): [State, Action[]] {
  const [following] = usableOf(s)
  const detail = s.detail && { detail: s.detail }
  if (following) {
    const [state, actions] = connect({ ...s, current: s.candidates.indexOf(following), failures: 0 })
    return [{ ...state, ...detail }, actions]
  }
  const failed = s.unplayable.length > 0 ? 'unplayable' : reason
  return [{ ...initial(s.candidates), played: s.played, phase: 'failed', reason: failed, ...detail },
    [{ type: 'wait', ms: unplayableWait }]]
}
