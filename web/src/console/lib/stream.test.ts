import { expect, test } from 'vitest'
import type { Address } from './session.svelte.ts'
import { addressName } from './stream.ts'

test('addresses are named by protocol, and say when they are over TLS', () => {
  const name = (protocol: Address['protocol'], url: string) => addressName({ protocol, url }, 'Player page')
  expect(name('rtmp', 'rtmp://h/live/a')).toBe('RTMP')
  expect(name('rtmp', 'rtmps://h/live/a')).toBe('RTMPS')
  expect(name('flv', 'http://h/live/a.flv')).toBe('HTTP-FLV')
  expect(name('ws', 'wss://h/live/a.flv')).toBe('WebSocket-FLV (TLS)')
  expect(name('page', 'https://h/live/a')).toBe('Player page (TLS)')
})
