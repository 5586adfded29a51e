import { expect, test } from 'vitest'
import { parametersOf } from './parameters.ts'

test('parametersOf', () => {
  expect(parametersOf('https://a.example/live/movie')).toEqual({
    src: 'https://a.example/live/movie', room: 'movie', attributes: { autoplay: '', controls: '' },
  })
  expect(parametersOf('https://a.example/tv/live/movie?token=x%26y&autoplay=0&muted&controls=0&protocol=hls&lang=zh'))
    .toEqual({
      src: 'https://a.example/tv/live/movie', room: 'movie',
      attributes: { token: 'x&y', muted: '', protocol: 'hls', lang: 'zh' },
    })
  expect(parametersOf('https://a.example/live/movie?muted=0&autoplay=true&controls=1').attributes)
    .toEqual({ autoplay: '', controls: '' })
  expect(parametersOf('https://a.example/live/movie?poster=a.png').attributes.poster).toBe('a.png')
  expect(parametersOf('https://a.example/live/movie?poster=0').attributes.poster).toBe('')
})
