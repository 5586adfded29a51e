// Texts of the streams.
import { dictionary } from './language.ts'

export const streams = dictionary({
  en: {
    stream: 'Stream',
    state: 'State',
    live: 'Live',
    held: 'Interrupted',
    bitrate: 'Bitrate',
    viewers: 'Viewers',
    uptime: 'On air for',
    none: 'Nothing is live.',
  },
  zh: {
    stream: '直播流',
    state: '状态',
    live: '直播中',
    held: '中断',
    bitrate: '码率',
    viewers: '观众',
    uptime: '已直播',
    none: '当前没有直播',
  },
})
