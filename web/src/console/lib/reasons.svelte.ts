// The sentences of the API are English: why it refuses a request, and what problem a stream has. Their statuses and
// codes are stable, and in Chinese a text for them comes first. These texts are loaded when the console is Chinese.
import { preferences } from './preferences.svelte.ts'

type Texts = typeof import('../text/reasons.zh.ts')

let chinese = $state.raw<Texts>()

$effect.root(() => {
  $effect(() => {
    if (preferences.language !== 'zh') return
    import('../text/reasons.zh.ts').then((texts) => { chinese = texts }, () => { /* the sentences stay alone */ })
  })
})

/** Returns what a status or a code means, '' in English, where the sentence of the API is enough. */
export function reasonOf(kind: keyof Texts, code: string | number): string {
  if (preferences.language !== 'zh') return ''
  return (chinese?.[kind] as Readonly<Record<string, string>> | undefined)?.[code] ?? ''
}
