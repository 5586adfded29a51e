// Short messages at the edge of the page.
import { messageOf } from '../api/error.ts'

const shownFor = 5000 // ms, for messages that are no errors
const most = 4

/** A message. Errors stay until they are closed. */
export interface Toast {
  id: number
  text: string
  error: boolean
}

class Toasts {
  list = $state.raw<readonly Toast[]>([])
  #last = 0

  show(text: string, error = false): void {
    const id = ++this.#last
    this.list = [...this.list.filter((t) => t.text !== text), { id, text, error }].slice(-most)
    if (!error) setTimeout(() => this.close(id), shownFor)
  }

  close(id: number): void {
    this.list = this.list.filter((t) => t.id !== id)
  }
}

export const toasts = new Toasts()

/** Shows a message for some seconds. */
export function showMessage(text: string): void {
  toasts.show(text)
}

/** Shows why something failed, until it is closed. */
export function showError(err: unknown): void {
  toasts.show(messageOf(err), true)
}
