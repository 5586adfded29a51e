// Texts of the list of streams.
import { dictionary } from './language.ts'

export const streams = dictionary({
  en: {
    live: 'Live',
    held: 'Interrupted',
    private: 'Private: viewers need a token',
    viewers: (n: number): string => (n === 1 ? 'viewer' : 'viewers'),
    problems: (n: number) => (n === 1 ? '1 problem' : `${n} problems`),
    none: 'Nothing is live',
    noneText: 'Start an encoder, and its stream appears here.',
    search: 'Search streams',
    noMatch: 'No stream matches the search.',
    start: 'Start a stream',
    more: (n: number) => `Only the first ${n} are shown.`,
  },
  zh: {
    live: '直播中',
    held: '已中断',
    private: '私有：观看需要令牌',
    viewers: () => '位观众',
    problems: (n: number) => `${n} 个问题`,
    none: '当前没有直播',
    noneText: '开始推流后，直播会出现在这里。',
    search: '搜索直播流',
    noMatch: '没有匹配的直播流。',
    start: '开始直播',
    more: (n: number) => `仅显示前 ${n} 路。`,
  },
})
