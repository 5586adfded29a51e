/** Copies a text to the clipboard. It reports whether the browser allowed it. */
export async function copyText(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text)
    return true
  } catch { // over plain HTTP there is only the old way
    const area = document.createElement('textarea')
    area.value = text
    area.className = 'off-screen'
    // In a dialog, what is outside cannot be focused.
    ;(document.querySelector('dialog[open]') ?? document.body).append(area)
    area.select()
    const ok = document.execCommand('copy')
    area.remove()
    return ok
  }
}
