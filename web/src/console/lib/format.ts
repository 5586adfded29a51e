// Numbers, times and rates as text.
import type { Language } from '../text/language.ts'

const locales: Record<Language, string> = { en: 'en-GB', zh: 'zh-CN' }

/** Returns a whole number with separators. */
export function formatNumber(n: number, language: Language): string {
  return new Intl.NumberFormat(locales[language], { maximumFractionDigits: 0 }).format(n)
}

/** Returns a share from 0 to 1 in percent, such as "1.2%". */
export function formatShare(share: number, language: Language): string {
  const digits = share > 0 && share < 0.0995 ? 1 : 0
  return new Intl.NumberFormat(locales[language], { style: 'percent', maximumFractionDigits: digits }).format(share)
}

/** Returns a size, such as "1.5 GB", in powers of 1000. */
export function formatBytes(bytes: number): string {
  return withUnit(bytes, ['B', 'kB', 'MB', 'GB', 'TB', 'PB'])
}

/** Returns a bitrate of so many kbit/s, such as "2.5 Mbit/s". */
export function formatBitrate(kbps: number): string {
  return withUnit(kbps * 1000, ['bit/s', 'kbit/s', 'Mbit/s', 'Gbit/s', 'Tbit/s'])
}

function withUnit(value: number, units: readonly string[]): string {
  let step = 0
  // 999.5 would be rounded to 1000
  while (step < units.length - 1 && value >= 999.5) {
    value /= 1000
    step++
  }
  const digits = step === 0 || value >= 99.95 ? 0 : 1
  return `${value.toFixed(digits)} ${units[step]}`
}

/** Returns a duration of so many seconds, such as "1 h 30 min" or "1 小时 30 分". */
export function formatDuration(seconds: number, language: Language): string {
  const [day, hour, minute, second] = language === 'zh' ? ['天', '小时', '分', '秒'] : ['d', 'h', 'min', 's']
  const s = Math.max(0, Math.floor(seconds))
  const [m, h, d] = [Math.floor(s / 60), Math.floor(s / 3600), Math.floor(s / 86400)]
  if (m < 1) return `${s} ${second}`
  if (h < 1) return `${m} ${minute}`
  if (d < 1) return m % 60 ? `${h} ${hour} ${m % 60} ${minute}` : `${h} ${hour}`
  return h % 24 ? `${d} ${day} ${h % 24} ${hour}` : `${d} ${day}`
}

/** Returns a length of media, such as "1:02:03". */
export function formatLength(seconds: number): string {
  const s = Math.max(0, Math.round(seconds))
  const two = (n: number) => String(n).padStart(2, '0')
  const rest = `${two(Math.floor(s / 60) % 60)}:${two(s % 60)}`
  return s >= 3600 ? `${Math.floor(s / 3600)}:${rest}` : rest.replace(/^0/, '')
}

/** Returns a time of day, with seconds. */
export function formatTime(at: Date | string, language: Language): string {
  return new Intl.DateTimeFormat(locales[language], { timeStyle: 'medium' }).format(new Date(at))
}

/** Returns a date with the time of day. */
export function formatDateTime(at: Date | string, language: Language): string {
  return new Intl.DateTimeFormat(locales[language], { dateStyle: 'medium', timeStyle: 'medium' }).format(new Date(at))
}

/** Returns how long ago a time was, such as "5 min ago", or how far ahead it is. */
export function formatAgo(at: Date | string, language: Language, now = Date.now()): string {
  const seconds = (new Date(at).getTime() - now) / 1000
  const format = new Intl.RelativeTimeFormat(locales[language], { numeric: 'auto', style: 'short' })
  const ago = Math.abs(seconds)
  if (ago < 60) return format.format(Math.trunc(seconds), 'second')
  if (ago < 3600) return format.format(Math.trunc(seconds / 60), 'minute')
  if (ago < 86400) return format.format(Math.trunc(seconds / 3600), 'hour')
  return format.format(Math.trunc(seconds / 86400), 'day')
}
