import { expect, test } from 'vitest'
import { parametersOf } from './parameters.ts'

test('parametersOf', () => {
  expect(parametersOf('https://a.example/live/movie', '')).toEqual({
    src: 'https://a.example/live/movie', room: 'movie', attributes: { autoplay: '', controls: '' },
  })
  const query = '?token=x%26y&autoplay=0&muted&controls=0&protocol=hls&lang=zh'
  expect(parametersOf(`https://a.example/tv/live/movie${query}`, '')).toEqual({
    src: 'https://a.example/tv/live/movie', room: 'movie',
    attributes: { token: 'x&y', muted: '', protocol: 'hls', lang: 'zh' },
  })
  expect(parametersOf('https://a.example/live/movie?muted=0&autoplay=true&controls=1', '').attributes)
    .toEqual({ autoplay: '', controls: '' })
})

test('poster', () => {
  const posterOf = (poster: string) => parametersOf(
    `https://a.example/live/movie?poster=${encodeURIComponent(poster)}`, 'https://site.example').attributes.poster
  for (const own of ['a.png', '/a.png', 'https://a.example/b', 'https://site.example/c']) {
    expect(posterOf(own)).toBe(own)
  }
  expect(posterOf('0')).toBe('')
  for (const other of ['https://other.example/a.png', '//other.example/a.png', 'http://a.example/a.png', 'http://',
    '\\\\other.example\\a.png', 'data:image/svg+xml,<svg/>', 'javascript:alert(1)', 'blob:https://x.example/1']) {
    expect(posterOf(other)).toBeUndefined()
  }
  expect(parametersOf('https://a.example/live/movie?poster=data:,x', '').attributes.poster).toBeUndefined()
})
