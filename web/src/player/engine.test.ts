import { expect, test, vi } from 'vitest'
import { codeOfClose, namesOfCodecs, reasonOfClose, reasonOfHandshake, reasonOfStatus, unplayableOf } from './engine.ts'

test('reasonOfStatus', () => {
  expect([401, 403, 404, 429, 500, 503, 0].map(reasonOfStatus))
    .toEqual(['refused', 'refused', 'offline', 'full', 'network', 'network', 'network'])
})

test('reasonOfClose', () => {
  expect([1000, 1006, 1008, 1012, 4401, 4403, 4404, 4429].map(reasonOfClose))
    .toEqual(['offline', 'network', 'refused', 'again', 'refused', 'refused', 'offline', 'full'])
})

test('reasonOfHandshake', async () => {
  for (const [status, reason, detail = ''] of [
    [200, 'unsupported'], [404, 'unsupported'], [403, 'unsupported'], [429, 'network'], [502, 'network'],
    [0, 'network', 'unreachable'],
  ] as const) {
    vi.stubGlobal('fetch', (address: string, options: RequestInit) => {
      expect([address, options.method]).toEqual(['https://tv.example/live/movie.flv?token=T', 'HEAD'])
      return status === 0 ? Promise.reject(new Error('offline')) : Promise.resolve({ status })
    })
    expect(await reasonOfHandshake('wss://tv.example/live/movie.flv?token=T')).toEqual([reason, detail])
  }
  vi.unstubAllGlobals()
})

test('codeOfClose', () => {
  expect(codeOfClose(4401, 'token_expired: token has expired')).toBe('token_expired')
  expect(codeOfClose(4404, 'stream not found')).toBe('')
  expect(codeOfClose(1008, 'disconnected')).toBe('session_ended')
})

test('namesOfCodecs', () => {
  expect(namesOfCodecs('avc1.64001f,mp4a.40.2')).toBe('H.264, AAC')
  expect(namesOfCodecs('hvc1.1.6.L93.B0, mp4a.40.34')).toBe('HEVC, MP3')
  expect(namesOfCodecs('dvh1.05')).toBe('dvh1.05')
  expect(namesOfCodecs('')).toBe('')
})

test('unplayableOf', () => {
  const chromium = (type: string) => !type.includes('hvc1')
  expect(unplayableOf('hvc1.1.6.L93.B0,mp4a.40.2', chromium)).toBe('HEVC')
  expect(unplayableOf('avc1.64001f,mp4a.40.2', chromium)).toBe('')
})
