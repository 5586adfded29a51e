import { expect, test } from 'vitest'
import { initial, type State } from './machine.ts'
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
  const message = (s: Partial<State>) => messageOf(t, { ...initial([]), ...s })
  expect(message({ phase: 'playing' })).toEqual(['', ''])
  expect(message({ phase: 'failed', reason: 'full' })[0]).toBe(t.full)
  expect(message({ phase: 'failed', reason: 'unplayable' })[0]).toBe(t.unplayable)
  expect(message({ phase: 'failed', reason: 'unplayable', detail: 'HEVC' })[0]).toContain('cannot play HEVC')
  expect(message({ phase: 'failed', reason: 'unsupported' })[0]).toBe(t.unsupported)
  expect(message({ phase: 'retrying', reason: 'again' })[0]).toBe(t.again)
  expect(message({ phase: 'retrying', reason: 'network' })[0]).toBe(t.retrying)
  expect(message({ phase: 'stalled' })[0]).toBe(t.stalled)
  expect(messageOf(t, { ...initial([]), phase: 'stalled' }, true)).toEqual([t.stalled, t.slow])
  expect(message({ phase: 'stalled', reason: 'offline' })[0]).toBe(t.interrupted)
  expect(message({ phase: 'offline', reason: 'offline' })[0]).toBe(t.offline)
  expect(message({ phase: 'offline', reason: 'offline', played: true })[0]).toBe(t.over)
})

test('messageOf a refusal', () => {
  const t = textOf('en')
  const refusal = (detail: string) => messageOf(t, { ...initial([]), phase: 'failed', reason: 'refused', detail })[0]
  expect(refusal('token_missing')).toBe(t.private)
  expect(refusal('token_expired')).toBe(t.expired)
  expect(refusal('token_used')).toBe(t.used)
  expect(refusal('token_not_yet_valid')).toBe(t.early)
  expect(refusal('session_ended')).toBe(t.disconnected)
  expect(refusal('token_invalid')).toBe(t.refused)
  expect(refusal('')).toBe(t.refused)
})
