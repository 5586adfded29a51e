// The settings of the server as a form edits them.
import type { components } from '../api/schema.ts'

export type Setting = components['schemas']['Setting']

/** A value as the API takes it. null removes a setting from those of the API. */
export type Value = boolean | number | string | readonly string[] | null

/** A setting in the language of the console. */
export interface Translated extends Setting {
  title: string // of its group
}

/** Translates settings. texts has the names of groups and the help texts by those of the server. */
export function translate(list: readonly Setting[], texts: Readonly<Record<string, string>>): readonly Translated[] {
  return list.map((s) => ({ ...s, title: texts[s.group] ?? s.group, help: texts[s.help] ?? s.help }))
}

/** Settings that are shown together. */
export interface Group {
  id: string
  title: string
  count: number
  settings: readonly Setting[]
}

/** Returns settings by group, in their order. */
export function groupsOf(list: readonly Translated[]): readonly Group[] {
  return [...new Set(list.map((s) => s.group))].map((group) => {
    const settings = list.filter((s) => s.group === group)
    const title = settings[0]?.title ?? group
    return { id: group.toLowerCase().replaceAll(' ', '-'), title, count: settings.length, settings }
  })
}

/** The text of a value in a field. */
export function textOf(value: unknown): string {
  if (value === undefined || value === null) return ''
  return Array.isArray(value) ? value.join('\n') : String(value)
}

/** A value as a person reads it. */
export function wordsOf(value: unknown, t: { on: string, off: string, empty: string }): string {
  if (typeof value === 'boolean') return value ? t.on : t.off
  return textOf(value).replaceAll('\n', ', ') || t.empty
}

/** The value that the text of a field means. A text that is no number stays one, which the server refuses. */
export function valueOf(kind: Setting['kind'], text: string): Value {
  switch (kind) {
    case 'number':
      return /^-?\d+$/.test(text.trim()) ? Number(text) : text.trim()
    case 'list':
      return text.split(/[\n,]/).map((s) => s.trim()).filter(Boolean)
    default:
      return text.trim()
  }
}

/** Reports whether a draft is what the server has. */
export function isSame(setting: Setting, draft: Value): boolean {
  if (draft === null || setting.set !== undefined) return false
  return textOf(nextOf(setting)) === textOf(draft)
}

/** The value that a setting has, or will have after a restart. */
export function nextOf(setting: Setting): unknown {
  return setting.restart ? setting.pending : setting.value
}

/**
 * Splits the reasons why the server refuses changes into those of one setting each, and others. A reason starts with
 * the key: 'relay_max (of the API): must be at least 0'.
 */
export function reasonsByKey(reasons: readonly string[], keys: readonly string[]): [Map<string, string>, string[]] {
  const byKey = new Map<string, string>()
  const others: string[] = []
  for (const reason of reasons) {
    const key = keys.find((k) => new RegExp(`^"?${k.replaceAll('.', '\\.')}"?( \\([^)]*\\))?: `).test(reason))
    if (key) byKey.set(key, [byKey.get(key), reason.slice(reason.indexOf(': ') + 2)].filter(Boolean).join('\n'))
    else others.push(reason)
  }
  return [byKey, others]
}
