// The messages between the player page and the page that embeds it.

/** What an embedding page may ask for. All messages have livego: 1. */
export type Command =
  | { livego: 1; command: 'play' | 'pause' | 'mute' | 'unmute' | 'state' | 'stats' }
  | { livego: 1; command: 'volume'; value: number } // 0 to 1

const plain = ['play', 'pause', 'mute', 'unmute', 'state', 'stats']

/** Returns the command in a message, or undefined if it is none. */
export function commandOf(data: unknown): Command | undefined {
  if (typeof data !== 'object' || data === null || !('livego' in data) || data.livego !== 1) return undefined
  if (!('command' in data) || typeof data.command !== 'string') return undefined
  if (plain.includes(data.command)) return data as Command
  if (data.command === 'volume' && 'value' in data && typeof data.value === 'number') return data as Command
  return undefined
}

/**
 * Returns the origin of the page that embeds this one, or "" if there is none or the browser hides it: then no message
 * is obeyed and none is sent.
 */
export function embedderOf(ancestorOrigins: readonly string[], referrer: string): string {
  const origin = ancestorOrigins[0] ?? (URL.canParse(referrer) ? new URL(referrer).origin : '')
  return origin === 'null' ? '' : origin
}
