import { expect, test } from 'vitest'
import { type Column, select } from './table.ts'

const columns: Column<{ room: string, viewers: number }>[] = [
  { id: 'room', label: 'Room', value: (r) => r.room },
  { id: 'viewers', label: 'Viewers', value: (r) => r.viewers, numeric: true },
  { id: 'actions', label: '' },
]
const rows = [{ room: 'cam10', viewers: 9 }, { room: 'cam2', viewers: 100 }, { room: '<b>Stage</b>', viewers: 9 }]
const rooms = (search: string, column?: string, descending = false) =>
  select(rows, columns, search, column ? { column, descending } : undefined, 'en').map((r) => r.room)

test('texts sort as people count, numbers by value, and equal rows keep their order', () => {
  expect(rooms('', 'room')).toEqual(['<b>Stage</b>', 'cam2', 'cam10'])
  expect(rooms('', 'viewers')).toEqual(['cam10', '<b>Stage</b>', 'cam2'])
  expect(rooms('', 'viewers', true)).toEqual(['cam2', 'cam10', '<b>Stage</b>'])
})

test('a row is found by all words of the search in any column', () => {
  expect(rooms('CAM 100')).toEqual(['cam2'])
  expect(rooms('<b>')).toEqual(['<b>Stage</b>'])
  expect(rooms('cam stage')).toEqual([])
})

test('a column without values does not sort', () => {
  expect(rooms('', 'actions')).toEqual(rows.map((r) => r.room))
})
