import { expect, test } from 'vitest'
import { commandOf, embedderOf } from './embed.ts'

test('commandOf', () => {
  expect(commandOf({ livego: 1, command: 'play' })).toEqual({ livego: 1, command: 'play' })
  expect(commandOf({ livego: 1, command: 'volume', value: 0.5 })).toEqual({ livego: 1, command: 'volume', value: 0.5 })
  for (const other of [null, undefined, 'play', 1, {}, { command: 'play' }, { livego: 2, command: 'play' },
    { livego: 1, command: 'remove' }, { livego: 1, command: 'volume', value: '1' }, { livego: 1 }, []]) {
    expect(commandOf(other)).toBeUndefined()
  }
})

test('embedderOf', () => {
  expect(embedderOf(['https://site.example', 'https://top.example'], 'https://other.example/'))
    .toBe('https://site.example')
  expect(embedderOf([], 'https://site.example/page?x')).toBe('https://site.example')
  expect(embedderOf([], '')).toBe('')
  expect(embedderOf(['null'], '')).toBe('')
})
