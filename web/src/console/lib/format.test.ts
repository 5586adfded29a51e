import { expect, test } from 'vitest'
import {
  formatAgo, formatBitrate, formatBytes, formatDuration, formatLength, formatNumber, formatShare,
} from './format.ts'

test('small shares have a decimal', () => {
  expect([0, 0.0004, 0.0123, 0.0996, 0.5, 1].map((s) => formatShare(s, 'en'))).toEqual(
    ['0%', '0%', '1.2%', '10%', '50%', '100%'])
})

test('sizes have three digits at most before the unit grows', () => {
  expect([0, 999, 1000, 1500, 999_949, 999_950, 12_345_678, 3e12].map(formatBytes)).toEqual(
    ['0 B', '999 B', '1.0 kB', '1.5 kB', '1.0 MB', '1.0 MB', '12.3 MB', '3.0 TB'])
})

test('bitrates are given in kbit/s', () => {
  expect([0, 0.4, 1.9, 128, 999.6, 2480.5, 12_000_000].map(formatBitrate)).toEqual(
    ['0 bit/s', '400 bit/s', '1.9 kbit/s', '128 kbit/s', '1.0 Mbit/s', '2.5 Mbit/s', '12.0 Gbit/s'])
})

test('durations have two units at most', () => {
  const times = [-1, 0, 59, 60, 3599, 3600, 5400, 86_400, 100_000]
  expect(times.map((t) => formatDuration(t, 'en'))).toEqual(
    ['0 s', '0 s', '59 s', '1 min', '59 min', '1 h', '1 h 30 min', '1 d', '1 d 3 h'])
  expect(formatDuration(5400, 'zh')).toBe('1 小时 30 分')
})

test('lengths of media read like a clock', () => {
  expect([0, 9, 61.5, 3723].map(formatLength)).toEqual(['0:00', '0:09', '1:02', '1:02:03'])
})

test('times are told relative to now', () => {
  const now = Date.parse('2030-01-31T12:00:00Z')
  expect(formatAgo('2030-01-31T11:55:00Z', 'en', now)).toBe('5 min ago')
  expect(formatAgo('2030-01-31T14:00:00Z', 'en', now)).toBe('in 2 hr')
  expect(formatAgo('2030-01-31T11:55:00Z', 'zh', now)).toBe('5分钟前')
})

test('whole numbers have separators', () => {
  expect(formatNumber(1234567.8, 'en')).toBe('1,234,568')
})
