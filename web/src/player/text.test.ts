import { expect, test } from 'vitest'
import { languageOf, messageOf, textOf } from './text.ts'

test('languageOf', () => {
  expect(languageOf(['zh-CN', 'en'])).toBe('zh')
  expect(languageOf(['de', 'en-GB', 'zh'])).toBe('en')
  expect(languageOf(['ZH-Hant-TW'])).toBe('zh')
  expect(languageOf(['fr'])).toBe('en')
  expect(languageOf([])).toBe('en')
})

test('messageOf', () => {
  const t = textOf('en')
  expect(messageOf(t, 'playing', undefined)).toEqual(['', ''])
  expect(messageOf(t, 'failed', 'refused')[0]).toBe(t.refused)
  expect(messageOf(t, 'failed', 'full')[0]).toBe(t.full)
  expect(messageOf(t, 'failed', 'unplayable')[0]).toBe(t.unplayable)
  expect(messageOf(t, 'retrying', 'again')[0]).toBe(t.again)
  expect(messageOf(t, 'retrying', 'network')[0]).toBe(t.retrying)
})
