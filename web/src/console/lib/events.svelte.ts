// Events of the server as they happen. The console has one connection for them, whatever its pages listen to.
import { base } from '../api/client.ts'
import type { ServerEvent } from './eventlog.ts'

type Listener = (event: ServerEvent) => void

const retryAfter = 5000 // ms after the server has refused the connection, which browsers do not try again
const closeAfter = 1000 // ms without a listener: the next page may have one
const listeners = new Set<Listener>()
let source: EventSource | undefined
let closing = 0

function open() {
  clearTimeout(closing)
  if (source || document.hidden || listeners.size === 0) return
  source = new EventSource(`${base}/api/v1/events/stream`)
  source.addEventListener('message', (message: MessageEvent<string>) => {
    const event = JSON.parse(message.data) as ServerEvent
    for (const listener of listeners) listener(event)
  })
  source.addEventListener('error', () => {
    if (source?.readyState !== EventSource.CLOSED) return
    close()
    setTimeout(open, retryAfter)
  })
}

function close() {
  source?.close()
  source = undefined
}

// A page that nobody sees takes none of the server's subscriptions.
document.addEventListener('visibilitychange', () => {
  if (document.hidden) close()
  else open()
})

/**
 * Calls listener for each event, as long as the component that calls this is shown and the page is visible. Events of
 * other times are missed: what they change has to be loaded again, as poll() does.
 */
export function onEvent(listener: Listener): void {
  $effect(() => {
    listeners.add(listener)
    open()
    return () => {
      listeners.delete(listener)
      clearTimeout(closing)
      if (listeners.size === 0) closing = setTimeout(close, closeAfter)
    }
  })
}
