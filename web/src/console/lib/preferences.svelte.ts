// What a person has chosen for this browser: language and theme.
import { type Dictionary, type Language, languageOf } from '../text/language.ts'

/** light and dark, or auto: as the system. */
export type Theme = 'auto' | 'light' | 'dark'

const languageCookie = 'livego_language' // the login page has the language of this cookie too
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

function cookie(name: string): string {
  const pair = document.cookie.split('; ').find((c) => c.startsWith(`${name}=`))
  return pair?.slice(name.length + 1) ?? ''
}

class Preferences {
  #language = $state<Language>(languageOf([cookie(languageCookie), ...navigator.languages]))
  #theme = $state<Theme>(themeOf(stored(themeKey)))

  constructor() {
    this.#show()
  }

  get language(): Language {
    return this.#language
  }

  set language(language: Language) {
    this.#language = language
    document.cookie = `${languageCookie}=${language}; path=/; max-age=31536000; samesite=strict`
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
