// The module that pages import: it defines <livego-player>.
import { LivegoPlayer } from './element.ts'

export type { PlayerState, PlayerStats } from './element.ts'
export { LivegoPlayer }

if (!customElements.get('livego-player')) customElements.define('livego-player', LivegoPlayer)

declare global {
  interface HTMLElementTagNameMap {
    'livego-player': LivegoPlayer
  }
}
