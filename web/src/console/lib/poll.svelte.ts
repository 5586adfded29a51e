// Values that are loaded again and again while the page is visible.
import { messageOf } from '../api/error.ts'
import { connection } from './connection.svelte.ts'
import { repeat } from './repeat.ts'

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
    const repeated = repeat({
      load, every,
      onvalue: (loaded) => { [value, error] = [loaded, ''] },
      // The frame says that the server does not answer.
      onerror: (err) => { error = connection.lost ? '' : messageOf(err) },
    })
    refresh = repeated.refresh
    return repeated.stop
  })

  return {
    get value() { return value },
    get error() { return error },
    refresh: () => refresh(),
  }
}
