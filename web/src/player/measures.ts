// What a player measures about the quality of watching.
import { Stalls } from './engine.ts'
import { protocolOf, type Protocol, type State } from './machine.ts'

/** Counts since a person or the page has started the player. Times are in ms. */
export class Measures {
  /** From the start to the first picture or sound; undefined if a publisher had to be waited for. */
  startTime: number | undefined
  /**
   * How often playback stalled, and for how long in all. A player cannot distinguish a publisher that is lost from a
   * network that carries nothing: the server can.
   */
  stalls = 0
  stallTime = 0
  /** Attempts that failed. */
  errors = 0
  /** Changes of the protocol. */
  switches = 0

  #started: number | undefined
  #stalledSince: number | undefined
  #latest = new Stalls()
  #protocol: Protocol | undefined

  /** Counts a change of the state of the player at the time now, in ms. */
  observe(before: State, after: State, now: number): void {
    if (after.phase === 'idle') {
      this.#endStall(now)
      return
    }
    if (before.phase === 'idle') {
      Object.assign(this, new Measures())
      this.#started = now
      this.#protocol = undefined
      this.#latest = new Stalls()
    }
    if (after.connected) {
      const protocol = protocolOf(after)
      if (this.#protocol && protocol !== this.#protocol) this.switches++
      this.#protocol = protocol
    }
    if (before.connected && !after.connected && after.reason !== 'offline') this.errors++
    if (after.phase === 'offline') this.#started = undefined
    if (after.phase === 'playing' && this.#started !== undefined) {
      this.startTime = now - this.#started
      this.#started = undefined
    }
    if (before.phase === 'playing' && after.phase === 'stalled') {
      this.stalls++
      this.#stalledSince = now
      this.#latest.add(now)
    } else if (after.phase !== 'stalled') this.#endStall(now)
    else if (after.reason === 'offline' && before.reason !== 'offline') this.#latest.drop() // nobody publishes
  }

  /** Returns whether playback stalls again and again. */
  slow(now: number): boolean {
    return this.#latest.many(now)
  }

  #endStall(now: number) {
    if (this.#stalledSince !== undefined) this.stallTime += now - this.#stalledSince
    this.#stalledSince = undefined
  }
}
