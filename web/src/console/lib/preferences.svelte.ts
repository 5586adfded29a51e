// What a person has chosen for this browser: language and theme.
import { type Dictionary, type Language, languageOf } from '../text/language.ts'

/** light and dark, or auto: as the system. */
export type Theme = 'auto' | 'light' | 'dark'

const languageKey = 'livego.language'
const themeKey = 'livego.theme'

function stored(key: string): string {
  try {
    return localStorage.getItem(key) ?? ''
  } catch { // the browser forbids it
    return ''
  }
}

function store(key: string, value: string) {
  try {
    localStorage.setItem(key, value)
  } catch { /* it is forgotten at the end of the visit */ }
}

class Preferences {
  #language = $state<Language>(languageOf([stored(languageKey), ...navigator.languages]))
  #theme = $state<Theme>(themeOf(stored(themeKey)))

  constructor() {
    this.#show()
  }

  get language(): Language {
    return this.#language
  }

  set language(language: Language) {
    this.#language = language
    store(languageKey, language)
    this.#show()
  }

  get theme(): Theme {
    return this.#theme
  }

  set theme(theme: Theme) {
    this.#theme = theme
    store(themeKey, theme)
    this.#show()
  }

  #show() {
    document.documentElement.lang = this.#language === 'zh' ? 'zh-CN' : 'en'
    document.documentElement.dataset['theme'] = this.#theme
  }
}

function themeOf(text: string): Theme {
  return text === 'light' || text === 'dark' ? text : 'auto'
}

export const preferences = new Preferences()

/** Returns the texts of a dictionary in the chosen language. */
export function textsOf<Texts>(d: Dictionary<Texts>): Texts {
  return d[preferences.language]
}
