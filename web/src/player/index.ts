// The module that pages import: it defines <livego-player>.
import { LivegoPlayer } from './element.ts'

export type { PlayerState } from './element.ts'
export type { PlayerStats } from './statistics.ts'
export { LivegoPlayer }

if (!customElements.get('livego-player')) customElements.define('livego-player', LivegoPlayer)

declare global {
  interface HTMLElementTagNameMap {
    'livego-player': LivegoPlayer
  }
}
