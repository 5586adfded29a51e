import { expect, test } from 'vitest'
import { reasonOfClose, reasonOfStatus } from './engine.ts'

test('reasonOfStatus', () => {
  expect([401, 403, 404, 429, 500, 503, 0].map(reasonOfStatus))
    .toEqual(['refused', 'refused', 'offline', 'full', 'network', 'network', 'network'])
})

test('reasonOfClose', () => {
  expect([1000, 1006, 1008, 1012, 4401, 4403, 4404, 4429].map(reasonOfClose))
    .toEqual(['offline', 'network', 'refused', 'again', 'refused', 'refused', 'offline', 'full'])
})
