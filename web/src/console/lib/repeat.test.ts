import { afterEach, expect, test, vi } from 'vitest'
import { connection } from './connection.svelte.ts'
import { repeat } from './repeat.ts'

afterEach(() => { vi.unstubAllGlobals() })

test('a request without an answer is a lost connection, and the next one is made', async () => {
  vi.stubGlobal('document', Object.assign(new EventTarget(), { hidden: false }))
  const happened: unknown[] = []
  let requests = 0
  const hang = (signal: AbortSignal) => new Promise<string>((_, reject) => {
    signal.addEventListener('abort', () => { reject(signal.reason as Error) })
  })
  await new Promise<void>((resolve) => {
    const { stop } = repeat({
      load: (signal) => ++requests === 1 ? hang(signal) : Promise.resolve('answer'),
      every: 1, timeout: 1,
      onerror: (err) => { happened.push((err as Error).name, connection.lost) },
      onvalue: (value) => {
        happened.push(value)
        stop()
        resolve()
      },
    })
  })
  expect(happened).toEqual(['TimeoutError', true, 'answer'])
})
