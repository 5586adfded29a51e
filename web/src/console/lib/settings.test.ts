import { expect, test } from 'vitest'
import { groupsOf, isSame, reasonsByKey, type Setting, textOf, translate, valueOf } from './settings.ts'

const setting = (change: Partial<Setting>): Setting => ({
  key: 'x', group: 'General', source: 'default', reload: 'live', write: 'operate', kind: 'text', values: '', help: '',
  ...change,
})

test('fields become the values of the API, and back', () => {
  expect(valueOf('number', ' 20 ')).toBe(20)
  expect(valueOf('number', '2.5')).toBe('2.5')
  expect(valueOf('list', 'a\n b ,c\n\n')).toEqual(['a', 'b', 'c'])
  expect(valueOf('text', ' 30s ')).toBe('30s')
  expect(textOf(['a', 'b'])).toBe('a\nb')
  expect([textOf(undefined), textOf(null), textOf(0), textOf(false)]).toEqual(['', '', '0', 'false'])
})

test('a draft that is the value of the server is no change', () => {
  expect(isSame(setting({ kind: 'number', value: 3 }), 3)).toBe(true)
  expect(isSame(setting({ kind: 'list', value: ['a'] }), ['a'])).toBe(true)
  expect(isSame(setting({ kind: 'list' }), [])).toBe(true)
  expect(isSame(setting({ value: '1s', restart: true, pending: '2s' }), '1s')).toBe(false)
  expect(isSame(setting({ value: '1s', restart: true, pending: '2s' }), '2s')).toBe(true)
  expect(isSame(setting({ set: true }), '')).toBe(false)
  expect(isSame(setting({ value: 'a' }), null)).toBe(false)
})

test('groups and help texts are translated, and stay as they are without a translation', () => {
  const list = [setting({ help: 'The port.' }), setting({ group: 'Access', help: 'The secret.' })]
  const texts = translate(list, { 'General': '通用', 'The port.': '端口。' }).map((s) => [s.title, s.help])
  expect(texts).toEqual([['通用', '端口。'], ['Access', 'The secret.']])
})

test('settings are grouped in their order, and the address of a group is the same in each language', () => {
  const list = ['Key store', 'HLS', 'Key store'].map((group, i) => setting({ group, key: `k${i}` }))
  const groups = groupsOf(translate(list, { 'Key store': '密钥存储' }))
  expect(groups.map((g) => [g.id, g.title, g.settings.map((s) => s.key)])).toEqual([
    ['key-store', '密钥存储', ['k0', 'k2']], ['hls', 'HLS', ['k1']],
  ])
})

test('reasons are shown at their settings', () => {
  const [byKey, others] = reasonsByKey(
    [
      'relay_max (of the API): must be at least 0, not -1', '"hook.secret": too short',
      'rtmp_addr and hls_addr: the same',
    ],
    ['relay_max', 'hook.secret', 'rtmp_addr'],
  )
  expect([...byKey]).toEqual([['relay_max', 'must be at least 0, not -1'], ['hook.secret', 'too short']])
  expect(others).toEqual(['rtmp_addr and hls_addr: the same'])
})
