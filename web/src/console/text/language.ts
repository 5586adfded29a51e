// The languages of the console. Each page has its own dictionary in this directory.

/** A language that the console speaks. */
export type Language = 'en' | 'zh'

/** A dictionary: the same texts in each language. A missing text is a type error. */
export interface Dictionary<Texts> {
  en: Texts
  zh: NoInfer<Texts>
}

/** Returns the first language of the list that the console speaks, or English. */
export function languageOf(wanted: readonly string[]): Language {
  for (const tag of wanted) {
    const [language] = tag.toLowerCase().split('-')
    if (language === 'zh' || language === 'en') return language
  }
  return 'en'
}

/** Checks that a dictionary has the same texts in each language. */
export function dictionary<Texts>(texts: Dictionary<Texts>): Dictionary<Texts> {
  return texts
}
