// One player at a time: a preview of the stream that a person points at, or a still of one after the other.
import { makePlayer, videoOf } from './player.ts'

const delay = 250 // ms that a pointer rests on a stream before it plays
const stillTimeout = 10_000 // ms
const stillWidth = 480 // pixels

class Preview {
  current = $state('') // what is played: an ID of a card, '' for nothing
  #timer = 0

  /** Plays the preview with this ID soon, and ends the one that plays. */
  show(id: string): void {
    clearTimeout(this.#timer)
    this.#timer = setTimeout(() => {
      this.current = id
    }, delay)
  }

  /** Ends the preview with this ID. */
  hide(id: string): void {
    clearTimeout(this.#timer)
    if (this.current === id) this.current = ''
  }
}

export const preview = new Preview()

let queue: Promise<unknown> = Promise.resolve()

/**
 * Returns a still of a stream, the first picture that a short, invisible player shows, or undefined. Those who ask get
 * theirs one after the other, when no preview plays.
 */
export function takeStill(page: string, token: () => Promise<string>, signal: AbortSignal): Promise<Blob | undefined> {
  const still = queue.then(async () => {
    if (signal.aborted || preview.current !== '' || document.hidden) return undefined
    const player = await makePlayer({ page, token: await token(), language: 'en', controls: false })
    const video = videoOf(player)
    if (!video) return undefined
    player.className = 'off-screen'
    player.inert = true
    document.body.append(player)
    try {
      return await firstPicture(video, signal)
    } finally {
      player.remove()
    }
  })
  queue = still.catch(() => undefined)
  return still
}

async function firstPicture(video: HTMLVideoElement, signal: AbortSignal): Promise<Blob | undefined> {
  const shown = await new Promise<boolean>((resolve) => {
    const timer = setTimeout(() => resolve(false), stillTimeout)
    const done = (ok: boolean) => {
      clearTimeout(timer)
      resolve(ok)
    }
    signal.addEventListener('abort', () => done(false), { once: true })
    video.addEventListener('loadeddata', () => done(video.videoWidth > 0), { once: true })
  })
  if (!shown) return undefined
  const canvas = document.createElement('canvas')
  canvas.width = stillWidth
  canvas.height = Math.round(stillWidth * video.videoHeight / video.videoWidth)
  canvas.getContext('2d')?.drawImage(video, 0, 0, canvas.width, canvas.height)
  return await new Promise((resolve) => {
    canvas.toBlob((blob) => resolve(blob ?? undefined), 'image/jpeg', 0.8)
  })
}
