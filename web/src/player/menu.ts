// The menu of the player: protocol, language, and the panel with statistics.
import { element } from './dom.ts'
import type { Protocol } from './machine.ts'
import { type Language, type Text, textOf } from './text.ts'

/** What the menu shows as chosen. */
export interface Choices {
  protocol: Protocol | '' // "" for automatic
  usable: readonly Protocol[]
  language: Language
  statistics: boolean
}

/** What a person chooses in the menu. */
export interface MenuEvents {
  protocol(chosen: Protocol | ''): void
  language(chosen: Language): void
  statistics(shown: boolean): void
}

const languages: readonly Language[] = ['en', 'zh']

/** Returns the name of a protocol. */
export function nameOf(t: Text, protocol: Protocol): string {
  return { ws: 'WebSocket-FLV', hls: 'HLS', native: t.byBrowser }[protocol]
}

/** A menu that is built when its texts or its choices change, since the focus is kept by name and value of an input. */
export class Menu {
  readonly root = element('div', { class: 'menu', part: 'menu', role: 'group', hidden: '' })
  readonly #events: MenuEvents

  constructor(events: MenuEvents) {
    this.#events = events
  }

  /** Shows the choices in a language. */
  render(t: Text, c: Choices): void {
    const root = this.root.getRootNode() as ShadowRoot
    const focused = root.activeElement instanceof HTMLInputElement ? root.activeElement : undefined
    this.root.ariaLabel = t.settings
    this.root.lang = c.language
    const protocols: [Protocol | '', string][] = [['', t.automatic], ...c.usable.map((p): [Protocol, string] =>
      [p, nameOf(t, p)])]
    this.root.replaceChildren(
      group('protocol', t.protocol, protocols, c.protocol, this.#events.protocol),
      group('language', t.languages, languages.map((l): [Language, string] => [l, textOf(l).language]), c.language,
        this.#events.language),
      element('div', { class: 'group' }, [
        choice('checkbox', 'statistics', '', t.statistics, c.statistics, (e) => this.#events.statistics(e.checked)),
      ]),
    )
    if (!focused || !this.root.isConnected) return
    for (const input of this.root.querySelectorAll('input')) {
      if (input.name === focused.name && input.value === focused.value) input.focus()
    }
  }
}

function group<V extends string>(
  name: string, title: string, values: readonly [V, string][], chosen: V, choose: (value: V) => void,
): HTMLElement {
  return element('fieldset', { class: 'group' }, [
    element('legend', {}, [title]),
    ...values.map(([value, text]) => choice('radio', name, value, text, value === chosen, () => choose(value))),
  ])
}

function choice(
  type: 'radio' | 'checkbox', name: string, value: string, text: string, checked: boolean,
  choose: (input: HTMLInputElement) => void,
): HTMLElement {
  const input = element('input', { type, name, value })
  input.checked = checked
  input.addEventListener('change', () => choose(input))
  return element('label', {}, [input, element('span', {}, [text])])
}
