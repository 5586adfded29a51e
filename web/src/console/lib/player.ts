// The player in the console.
import type { LivegoPlayer } from '../../player/index.ts'

/** What is played, and how. */
export interface Source {
  page: string // address of the player page
  token: string
  language: string
  controls: boolean
}

/** Returns an element that plays a stream without sound once it is on the page. */
export async function makePlayer(source: Source): Promise<LivegoPlayer> {
  await import('../../player/index.ts')
  const player = document.createElement('livego-player')
  const attributes: Record<string, string> = { src: source.page, lang: source.language, autoplay: '', muted: '' }
  if (source.token) attributes['token'] = source.token
  if (source.controls) attributes['controls'] = ''
  else attributes['tabindex'] = '-1'
  for (const [name, value] of Object.entries(attributes)) player.setAttribute(name, value)
  return player
}

/** Returns the video element of a player. */
export function videoOf(player: LivegoPlayer): HTMLVideoElement | undefined {
  return player.shadowRoot?.querySelector('video') ?? undefined
}
