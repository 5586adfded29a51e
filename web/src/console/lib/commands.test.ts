import { expect, test } from 'vitest'
import { commandsOf, elementCode, encoders, frameCode, publishURL, quote } from './commands.ts'

test('a shell reads a quoted word as it is', () => {
  expect(quote('rtmp://host:1935/live/aZ09')).toBe('rtmp://host:1935/live/aZ09')
  expect(quote("rtmp://host/live/it's $(rm)")).toBe(`'rtmp://host/live/it'\\''s $(rm)'`)
  expect(quote('rtmp://host/live/movie?token=a&b')).toBe("'rtmp://host/live/movie?token=a&b'")
  expect(quote('')).toBe("''")
})

test('every command publishes to the address', () => {
  const url = publishURL('rtmp://host/live/', 'KEY')
  expect(url).toBe('rtmp://host/live/KEY')
  for (const encoder of encoders) {
    const commands = commandsOf(encoder, url)
    expect(commands.length > 0).toBe(encoder !== 'obs')
    for (const command of commands) expect(command.text).toContain('rtmp://host/live/KEY')
  }
})

test('code for other pages cannot be broken by an address', () => {
  const code = frameCode('http://host/live/a"><script>&')
  expect(code).toContain('src="http://host/live/a&quot;>&lt;script>&amp;"')
  expect(code).toContain('allow="autoplay; fullscreen; picture-in-picture"')
  expect(elementCode('https://host:7443/live/movie', 'a"b')).toBe(
    '<script type="module" src="https://host:7443/.livego/player.js"></script>\n' +
    '<livego-player src="https://host:7443/live/movie" token="a&quot;b" autoplay muted controls></livego-player>')
})
