// Makes elements without markup, so that no page's policy on markup stands in the way.

type Children = readonly (Node | string)[]

/** Returns an element with attributes and children. */
export function element<K extends keyof HTMLElementTagNameMap>(
  tag: K, attributes: Record<string, string> = {}, children: Children = [],
): HTMLElementTagNameMap[K] {
  const e = document.createElement(tag)
  for (const [name, value] of Object.entries(attributes)) e.setAttribute(name, value)
  e.append(...children)
  return e
}

const paths = {
  play: 'M8 5v14l11-7z',
  pause: 'M6 5h4v14H6zm8 0h4v14h-4z',
  sound: 'M3 9v6h4l5 5V4L7 9zm11-1v8a4.5 4.5 0 0 0 0-8zm0-4.8v2.1a7 7 0 0 1 0 13.4v2.1a9 9 0 0 0 0-17.6z',
  muted:
    'M3 9v6h4l5 5V4L7 9zm18 .4L19.6 8 17 10.6 14.4 8 13 9.4l2.6 2.6-2.6 2.6 1.4 1.4 2.6-2.6 2.6 2.6 1.4-1.4-2.6-2.6z',
  settings:
    'M19.14 12.94a7 7 0 0 0-.01-1.88l2.03-1.58a.5.5 0 0 0 .12-.61l-1.92-3.32a.5.5 0 0 0-.59-.22l-2.39.96a7 7 ' +
    '0 0 0-1.62-.94l-.36-2.54a.48.48 0 0 0-.48-.41h-3.84a.48.48 0 0 0-.47.41l-.36 2.54a7 7 0 0 0-1.62.94l' +
    '-2.39-.96a.5.5 0 0 0-.59.22L2.74 8.87a.5.5 0 0 0 .12.61l2.03 1.58a7 7 0 0 0-.02 1.88l-2.03 1.58a.5.5 0 ' +
    '0 0-.12.61l1.92 3.32c.12.22.37.29.59.22l2.39-.96c.5.38 1.03.7 1.62.94l.36 2.54c.05.24.24.41.48.41h3.84c' +
    '.24 0 .44-.17.47-.41l.36-2.54a7 7 0 0 0 1.62-.94l2.39.96c.22.08.47 0 .59-.22l1.92-3.32a.5.5 0 0 0-.12' +
    '-.61zM12 15.6a3.6 3.6 0 1 1 0-7.2 3.6 3.6 0 0 1 0 7.2z',
  antenna:
    'M7.76 16.24a6 6 0 0 1 0-8.48l1.42 1.42a4 4 0 0 0 0 5.65zm8.48 0a6 6 0 0 0 0-8.48l-1.42 1.42a4 4 0 0 1 0 ' +
    '5.65zM12 10a2 2 0 1 0 0 4 2 2 0 0 0 0-4zm5.65 7.65 1.42 1.42a10 10 0 0 0 0-14.14l-1.42 1.42a8 8 0 0 1 0 ' +
    '11.3zM6.35 6.35 4.93 4.93a10 10 0 0 0 0 14.14l1.42-1.42a8 8 0 0 1 0-11.3z',
  lock:
    'M18 8h-1V7A5 5 0 0 0 7 7v1H6a2 2 0 0 0-2 2v10c0 1.1.9 2 2 2h12a2 2 0 0 0 2-2V10a2 2 0 0 0-2-2zM9 7a3 3 ' +
    '0 0 1 6 0v1H9zm3 10a2 2 0 1 1 0-4 2 2 0 0 1 0 4z',
  people:
    'M16 11a3 3 0 1 0 0-6 3 3 0 0 0 0 6zm-8 0a3 3 0 1 0 0-6 3 3 0 0 0 0 6zm0 2c-2.3 0-7 1.2-7 3.5V19h14v-2.5C' +
    '15 14.2 10.3 13 8 13zm8 0-1 .1c1.2.8 2 1.9 2 3.4V19h6v-2.5c0-2.3-4.7-3.5-7-3.5z',
  warning: 'M1 21h22L12 2zm12-3h-2v-2h2zm0-4h-2v-4h2z',
  pip: 'M19 11h-8v6h8zm2-8H3a2 2 0 0 0-2 2v14c0 1.1.9 2 2 2h18a2 2 0 0 0 2-2V5a2 2 0 0 0-2-2zm0 16H3V5h18z',
  fullscreen: 'M7 14H5v5h5v-2H7zm-2-4h2V7h3V5H5zm12 7h-3v2h5v-5h-2zM14 5v2h3v3h2V5z',
  exitFullscreen: 'M5 16h3v3h2v-5H5zm3-8H5v2h5V5H8zm6 11h2v-3h3v-2h-5zm2-11V5h-2v5h5V8z',
}

/** The name of a picture for a button or a message. */
export type Icon = keyof typeof paths

/** Returns a picture for a button or a message. */
export function icon(name: Icon): SVGSVGElement {
  const space = 'http://www.w3.org/2000/svg'
  const svg = document.createElementNS(space, 'svg')
  svg.setAttribute('viewBox', '0 0 24 24')
  svg.setAttribute('aria-hidden', 'true')
  const path = document.createElementNS(space, 'path')
  path.setAttribute('d', paths[name])
  svg.append(path)
  return svg
}

/** Shows a picture in an element, or a spinner. */
export function setPicture(e: HTMLElement, picture: Icon | undefined) {
  if (e.dataset.picture === (picture ?? 'spinner')) return
  e.dataset.picture = picture ?? 'spinner'
  e.replaceChildren(picture ? icon(picture) : element('span', { class: 'spinner' }))
}

/** Changes a text only if it differs: screen readers announce changes. */
export function setText(e: HTMLElement, text: string) {
  if (e.textContent !== text) e.textContent = text
}

/** Sets the name of a button. */
export function label(b: HTMLElement, text: string) {
  b.ariaLabel = b.title = text
}

/** Sets the picture and the name of a button. */
export function setButton(b: HTMLButtonElement, picture: Icon, text: string) {
  setPicture(b, picture)
  label(b, text)
}
