import { expect, test } from 'vitest'
import { hashOf, parseHash } from './route.ts'

test('an address is parsed into segments and query', () => {
  const route = parseHash('#/sessions/a?room=movie&kind=viewer')
  expect(route.path).toEqual(['sessions', 'a'])
  expect(route.query.get('room')).toBe('movie')
  expect(parseHash('').path).toEqual([])
  expect(parseHash('#/').path).toEqual([])
})

test('names with any characters come back from an address', () => {
  const names = ['streams', 'live', 'a/b?c#d%e <b>&"直播']
  expect(parseHash(hashOf(...names)).path).toEqual(names)
})

test('a segment with an invalid escape stays as it is', () => {
  expect(parseHash('#/streams/%E0%A4%A').path).toEqual(['streams', '%E0%A4%A'])
})
