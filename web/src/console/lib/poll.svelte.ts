// Values that are loaded again and again while the page is visible.
import { messageOf } from '../api/error.ts'
import { connection } from './connection.svelte.ts'

/** A value that is loaded again and again. */
export interface Poll<T> {
  readonly value: T | undefined // the newest, undefined before the first
  readonly error: string // why the last attempt failed, '' if it did not
  refresh(): void
}

/**
 * Loads a value now and every so many milliseconds after the answer before, as long as the component that calls this is
 * shown and the page is visible. When a reactive value that load reads at its start has changed, it loads at once.
 * every may be a function, which is called after each answer.
 */
export function poll<T>(load: (signal: AbortSignal) => Promise<T>, every: number | (() => number)): Poll<T> {
  let value = $state.raw<T>()
  let error = $state('')
  let refresh = () => { /* not started */ }

  $effect(() => {
    const stopped = new AbortController()
    let timer = 0
    let running = false
    let again = false
    const run = async () => {
      clearTimeout(timer)
      again = running
      if (running) return
      running = true
      try {
        value = await load(stopped.signal)
        error = ''
      } catch (err) {
        // The frame says that the server does not answer.
        if (!stopped.signal.aborted) error = connection.lost ? '' : messageOf(err)
      }
      running = false
      if (stopped.signal.aborted || document.hidden) return
      if (again) void run()
      else timer = setTimeout(() => void run(), typeof every === 'number' ? every : every())
    }
    refresh = () => void run()
    const changed = () => {
      clearTimeout(timer)
      if (!document.hidden) void run()
    }
    document.addEventListener('visibilitychange', changed)
    void run()
    return () => {
      stopped.abort()
      clearTimeout(timer)
      document.removeEventListener('visibilitychange', changed)
    }
  })

  return {
    get value() { return value },
    get error() { return error },
    refresh: () => refresh(),
  }
}
