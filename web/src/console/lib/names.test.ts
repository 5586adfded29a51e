import { expect, test } from 'vitest'
import { isDuration, isRelayURL, isRoom } from './names.ts'

test('rooms have letters, digits, dots, hyphens and underscores', () => {
  for (const name of ['movie', 'a.b-c_D9', 'x'.repeat(128)]) expect(isRoom(name), name).toBe(true)
  for (const name of ['', '.a', 'a.', 'a b', 'a/b', '<b>', '电影', 'x'.repeat(129)]) {
    expect(isRoom(name), name).toBe(false)
  }
})

test('URLs of relays name a host and a stream', () => {
  for (const url of ['rtmp://h/live/key', 'rtmps://h:443/a/b?c=d', 'rtmp://[::1]/a/b']) {
    expect(isRelayURL(url, 'push'), url).toBe(true)
    expect(isRelayURL(url, 'pull'), url).toBe(true)
  }
  expect(isRelayURL('https://h/live/movie.flv', 'pull')).toBe(true)
  for (const url of ['', 'movie', 'rtmp://h', 'rtmp://h/live', 'rtmp:///live/x', 'https://h/x.flv', 'file:///etc/x']) {
    expect(isRelayURL(url, 'push'), url).toBe(false)
  }
})

test('durations have units', () => {
  for (const text of ['90s', '30m', '1h30m', '1.5h', '500ms']) expect(isDuration(text), text).toBe(true)
  for (const text of ['', '90', 'h', '1 h', '1d', '-1s']) expect(isDuration(text), text).toBe(false)
})
