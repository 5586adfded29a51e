// Search and sort of tables.

/** A column of a table. */
export interface Column<Row> {
  id: string
  label: string
  value?: (row: Row) => string | number // to sort by, and to search in; absent for columns with buttons
  numeric?: boolean // aligned to the right
  wide?: boolean // takes the space that is left
  heading?: boolean // on a phone it is the heading of the row's card
  desktop?: boolean // a phone does not show it
}

/** What a table is sorted by. */
export interface Sort {
  column: string
  descending: boolean
}

/** Returns what reports whether a text contains every word of a search. */
export function searchFor(search: string): (text: string) => boolean {
  const words = search.toLowerCase().split(/\s+/).filter(Boolean)
  return (text) => {
    const lower = text.toLowerCase()
    return words.every((word) => lower.includes(word))
  }
}

/** Returns the rows that contain every word of the search, sorted. Rows that are equal keep their order. */
export function select<Row>(
  rows: readonly Row[], columns: readonly Column<Row>[], search: string, sort: Sort | undefined, locale: string,
): Row[] {
  const matches = searchFor(search)
  const found = rows.filter((row) => !search || matches(columns.map((c) => c.value?.(row) ?? '').join('\n')))
  const value = columns.find((c) => c.id === sort?.column)?.value
  if (!value) return found
  const collator = new Intl.Collator(locale, { numeric: true })
  const direction = sort?.descending ? -1 : 1
  return found.sort((a, b) => {
    const [x, y] = [value(a), value(b)]
    return direction * (typeof x === 'number' && typeof y === 'number' ? x - y : collator.compare(String(x), String(y)))
  })
}
