import { expect, test } from 'vitest'
import { addressOf, candidatesOf } from './address.ts'

test('addressOf', () => {
  expect(addressOf('http://a.example:7001/live/movie', '', 'ws')).toBe('ws://a.example:7001/live/movie.flv')
  expect(addressOf('https://a.example/live/movie?token=x', '', 'ws')).toBe('wss://a.example/live/movie.flv?token=x')
  expect(addressOf('https://a.example/tv/live/movie/#t', 'a&b', 'hls'))
    .toBe('https://a.example/tv/live/movie.m3u8?token=a%26b')
  expect(addressOf('https://a.example/live/movie?token=x&s=1', 'y', 'native'))
    .toBe('https://a.example/live/movie.m3u8?token=y&s=1')
  expect(addressOf('https://a.example/live/movie', 'x', 'jpg')).toBe('https://a.example/live/movie.jpg?token=x')
  for (const src of ['a.example:7001/live/movie', 'rtmp://a.example/live/movie', 'javascript:alert(1)', 'data:,x']) {
    expect(addressOf(src, '', 'ws')).toBe('')
  }
})

test('candidatesOf', () => {
  expect(candidatesOf('', true, false)).toEqual(['ws', 'hls'])
  expect(candidatesOf('', false, true)).toEqual(['native'])
  expect(candidatesOf('hls', true, true)).toEqual(['hls'])
  expect(candidatesOf('hls', false, true)).toEqual(['native'])
  expect(candidatesOf('rtmp', true, true)).toEqual(['ws', 'hls', 'native'])
})
