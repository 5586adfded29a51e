import { expect, test } from 'vitest'
import { factsOf, kindOf, merge, type ServerEvent } from './eventlog.ts'

const event = (id: number, type = 'stream.started'): ServerEvent => ({ id, type, at: '2030-01-01T00:00:00Z' })

test('lists are merged by ID, the newest first', () => {
  const ids = merge([event(2), event(5)], [event(5), event(3)], 10).map((e) => e.id)
  expect(ids).toEqual([5, 3, 2])
  expect(merge([event(1)], [event(2), event(3)], 2).map((e) => e.id)).toEqual([3, 2])
})

test('the kind is the first word of the type', () => {
  expect(kindOf(event(1, 'denied'))).toBe('denied')
  expect(kindOf(event(1, 'viewer.left'))).toBe('viewer')
  expect(kindOf(event(1, 'quality.low'))).toBeUndefined()
})

test('facts are texts', () => {
  const fields = { file: '<b>', bytes: 3, gaps: 0, ok: true }
  expect(factsOf({ ...event(1), fields })).toEqual(['file: <b>', 'bytes: 3', 'ok: true'])
  expect(factsOf(event(1))).toEqual([])
})
