import { expect, test } from 'vitest'
import { languageOf } from './language.ts'

test('the first language that the console speaks is chosen', () => {
  expect(languageOf(['', 'fr-FR', 'zh-TW', 'en'])).toBe('zh')
  expect(languageOf(['en-AU', 'zh'])).toBe('en')
  expect(languageOf(['de'])).toBe('en')
})
