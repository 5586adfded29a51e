// Requests that are made again and again while the page is visible.
import { connection } from './connection.svelte.ts'

const answerTimeout = 15_000 // ms
const retryAfter = 2000 // ms, at most, while the connection is lost

/** What is repeated. */
export interface Repeated<T> {
  load: (signal: AbortSignal) => Promise<T>
  every: number | (() => number) // ms after an answer; a function is called after each
  onvalue: (value: T) => void
  onerror: (err: unknown) => void
  timeout?: number // ms in which an answer has to come, or the connection is lost
}

/** Loads now and then again and again as long as the page is visible. refresh loads at once. */
export function repeat<T>(
  { load, every, onvalue, onerror, timeout = answerTimeout }: Repeated<T>,
): { refresh: () => void, stop: () => void } {
  const stopped = new AbortController()
  const wait = typeof every === 'number' ? () => every : every
  let timer: ReturnType<typeof setTimeout> | undefined
  let running = false
  let again = false
  const run = async () => {
    clearTimeout(timer)
    again = running
    if (running) return
    running = true
    const late = AbortSignal.timeout(timeout)
    try {
      onvalue(await load(AbortSignal.any([stopped.signal, late])))
    } catch (err) {
      if (late.aborted) connection.lost = true
      if (!stopped.signal.aborted) onerror(err)
    }
    running = false
    if (stopped.signal.aborted || document.hidden) return
    if (again) void run()
    else timer = setTimeout(() => void run(), connection.lost ? Math.min(wait(), retryAfter) : wait())
  }
  const changed = () => {
    clearTimeout(timer)
    if (!document.hidden) void run()
  }
  document.addEventListener('visibilitychange', changed)
  void run()
  return {
    refresh: () => void run(),
    stop: () => {
      stopped.abort()
      clearTimeout(timer)
      document.removeEventListener('visibilitychange', changed)
    },
  }
}
