// Reports to the server how well a stream plays: docs/watching.md says what and when.
import type { Event, State } from './machine.ts'
import type { PlayerStats } from './statistics.ts'

/** What a report is made of. */
export type Playback =
  Pick<PlayerStats, 'startTime' | 'stalls' | 'stallTime' | 'switches' | 'behind' | 'frames' | 'dropped'>

const interval = 30_000 // ms between reports, and up to jitter more, so that players do not report all at once
const jitter = 10_000
const soonest = 5000 // ms between a report and the next one that something causes
const maxErrors = 4 // in a report
const accepted = 204 // the status of a report
const gone = 410 // of one that the server does not want

const ms = (seconds: number) => Math.round(seconds * 1000)

/**
 * Returns the text of a report, as CMCD (CTA-5004-B). before is what was known when the player connected last, if it
 * had reported before that: a server that does not know the session counts from there.
 */
export function reportOf(session: string, p: Playback, errors: readonly string[], before?: Playback): string {
  const counts = before && [before.stalls, ms(before.stallTime), before.dropped, before.frames, before.switches]
  const pairs = [
    `bsa=(${p.stalls})`, `bsda=(${ms(p.stallTime)})`, `dfa=${p.dropped}`,
    errors.length > 0 ? `ec=(${errors.map((code) => `"${code}"`).join(' ')})` : '',
    counts ? `livego-before=(${counts.join(' ')})` : '',
    `livego-frames=${p.frames}`, `livego-switches=${p.switches}`,
    p.behind === undefined ? '' : `ltc=${ms(p.behind)}`, p.startTime === undefined ? '' : `msd=${ms(p.startTime)}`,
    `sid="${session}"`, 'v=2',
  ]
  return pairs.filter(Boolean).join(',')
}

// newSession returns a name that nobody guesses. crypto.randomUUID needs HTTPS.
function newSession(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, '0')).join('')
}

/** Sends reports of one player. playback returns what there is to report. */
export class Reporter {
  readonly #playback: () => Playback
  #session = ''
  #address = '' // where reports go; '' before the first connection and after the end
  #wanted = false // the server has not refused a report since the last connection
  #timer: ReturnType<typeof setTimeout> | undefined
  #sent = -Infinity // when
  #plays = false
  #errors: string[] = [] // since the last report
  #accepted = false // a report since the last connection
  #atConnection: Playback | undefined // what was known at the last connection, if there were reports before it
  #last = { frames: 0, dropped: 0 } // of the connection
  #before = { frames: 0, dropped: 0 } // of earlier connections

  constructor(playback: () => Playback) {
    this.#playback = playback
  }

  /** Returns the address of a stream with the name of the playback, under which its reports are accepted. */
  addressOf(stream: string): string {
    const url = new URL(stream)
    url.searchParams.set('CMCD', `sid="${this.#session}"`)
    const report = new URL('../.livego/report', url)
    report.protocol = report.protocol.replace('ws', 'http')
    this.#address = report.href
    this.#wanted = true
    if (this.#accepted) this.#atConnection = this.#total()
    this.#accepted = false
    return url.href
  }

  /** Observes what an event has changed, before the player acts on it. */
  observe(before: State, after: State, event: Event): void {
    this.#plays = after.phase === 'playing' || after.phase === 'stalled'
    if (after.phase === 'idle') {
      if (before.phase !== 'idle') this.send()
      clearTimeout(this.#timer)
      this.#address = ''
      return
    }
    if (before.phase === 'idle') {
      this.#session = newSession()
      this.#sent = -Infinity
      this.#errors = []
      this.#accepted = false
      this.#atConnection = undefined
      this.#last = { frames: 0, dropped: 0 }
      this.#before = { frames: 0, dropped: 0 }
    }
    if (event.type === 'ended' && before.connected && (event.reason === 'network' || event.reason === 'unplayable')) {
      this.#errors = [...this.#errors, event.reason].slice(-maxErrors)
    }
    const late = performance.now() - this.#sent >= soonest
    if (after.phase === 'playing' && before.phase !== 'playing' && late) this.send()
  }

  /** Sends a report, if the server wants one. */
  send(): void {
    clearTimeout(this.#timer)
    if (!this.#wanted || !this.#address) return
    this.#timer = setTimeout(() => {
      if (this.#plays) this.send()
    }, interval + Math.random() * jitter)
    this.#sent = performance.now()
    const text = reportOf(this.#session, this.#total(), this.#errors, this.#atConnection)
    this.#errors = []
    void this.#post(`${this.#address}?CMCD=${encodeURIComponent(text)}`)
  }

  // total returns what is known, with the frames of all connections: the counts of a browser start again with each.
  #total(): Playback {
    const playback = this.#playback()
    const { frames, dropped } = playback
    if (frames < this.#last.frames) {
      this.#before.frames += this.#last.frames
      this.#before.dropped += this.#last.dropped
    }
    this.#last = { frames, dropped }
    return { ...playback, frames: this.#before.frames + frames, dropped: this.#before.dropped + dropped }
  }

  async #post(address: string) {
    try {
      const { status } = await fetch(address, {
        keepalive: true, cache: 'no-store', credentials: 'omit', referrerPolicy: 'no-referrer',
      })
      if (status === accepted) this.#accepted = true
      else if (status === gone) this.#wanted = false
    } catch { /* the next report has the same totals */ }
  }
}
