// The panel with statistics of the player.
import { element } from './dom.ts'
import { namesOfCodecs } from './engine.ts'
import type { Protocol } from './machine.ts'
import { nameOf } from './menu.ts'
import type { Language, Text } from './text.ts'

/** What is known about the stream and how it is played. Times are in s. */
export interface PlayerStats {
  width: number // of the picture, in pixels; 0 for audio only
  height: number
  codecs: string // as in RFC 6381, "" while they are unknown
  frames: number // shown or dropped since the attempt began
  dropped: number
  behind?: number // newest media minus the picture
  buffered?: number // media received and not yet played
  received?: number // bytes of media since the attempt began
  // Since the start of the player:
  startTime?: number // from the start to the first picture or sound, if no publisher had to be waited for
  stalls: number // how often playback stalled
  stallTime: number
  errors: number // attempts that failed
  switches: number // changes of the protocol
}

/** A panel that is rendered about once a second. Rates are those since it was rendered before. */
export class Statistics {
  readonly root = element('dl', { class: 'info', part: 'statistics', hidden: '' })
  #last = { time: 0, frames: 0, received: 0 }

  /** Shows what is known now. */
  render(t: Text, language: Language, protocol: Protocol | undefined, stats: PlayerStats): void {
    const { width, height, codecs, frames, dropped, behind, buffered, received = 0 } = stats
    const time = performance.now()
    const last = this.#last
    this.#last = { time, frames, received }
    const elapsed = (time - last.time) / 1000
    const measured = elapsed < 2 && received > last.received // not the first update, and the same attempt
    const number = (digits: number) =>
      new Intl.NumberFormat(language, { maximumFractionDigits: digits, minimumFractionDigits: digits })
    const seconds = (n: number | undefined) => (n === undefined ? '–' : `${number(1).format(n)} s`)
    const lines: [string, string][] = [
      [t.protocol, protocol ? nameOf(t, protocol) : '–'],
      [t.codecs, namesOfCodecs(codecs) || '–'],
      [t.resolution, width > 0 ? `${width} × ${height}` : '–'],
      [t.frameRate, measured && frames > last.frames ? number(0).format((frames - last.frames) / elapsed) : '–'],
      [t.bitrate, measured ? `${number(0).format((received - last.received) * 8 / 1000 / elapsed)} kbit/s` : '–'],
      [t.behind, seconds(behind)],
      [t.buffered, seconds(buffered)],
      [t.dropped, number(0).format(dropped)],
    ]
    this.root.replaceChildren(...lines.flatMap(([name, value]) => [
      element('dt', {}, [name]), element('dd', {}, [value]),
    ]))
  }
}
