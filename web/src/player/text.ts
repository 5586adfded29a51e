// What the player says, in each language.
import type { Phase, Reason } from './machine.ts'

const en = {
  language: 'English',
  player: 'Live video',
  play: 'Play',
  pause: 'Pause',
  mute: 'Mute',
  unmute: 'Unmute',
  volume: 'Volume',
  info: 'Quality and delay',
  pip: 'Picture-in-picture',
  fullscreen: 'Full screen',
  exitFullscreen: 'Exit full screen',
  live: 'LIVE',
  connecting: 'Connecting…',
  stalled: 'Buffering…',
  offline: 'The stream has not started yet.',
  offlineMore: 'It will play here as soon as it does.',
  retrying: 'The connection was lost. Connecting again…',
  again: 'The stream is changing. Connecting again…',
  refused: 'You cannot watch this stream.',
  refusedMore: 'The link may have expired. Ask for a new one.',
  full: 'Too many people are watching.',
  fullMore: 'The player tries again every few seconds.',
  unplayable: 'This browser cannot play the stream.',
  unplayableMore: 'Try another browser, such as Chrome, Edge or Safari.',
  audioOnly: 'Audio only',
  protocol: 'Protocol',
  resolution: 'Resolution',
  bitrate: 'Bitrate',
  behind: 'Behind live',
  dropped: 'Dropped frames',
}

/** The texts of one language. */
export type Text = typeof en

const zh: Text = {
  language: '中文',
  player: '直播视频',
  play: '播放',
  pause: '暂停',
  mute: '静音',
  unmute: '取消静音',
  volume: '音量',
  info: '画质与延迟',
  pip: '画中画',
  fullscreen: '全屏',
  exitFullscreen: '退出全屏',
  live: '直播',
  connecting: '正在连接…',
  stalled: '正在缓冲…',
  offline: '直播还没有开始',
  offlineMore: '开播后会自动播放',
  retrying: '连接中断，正在重新连接…',
  again: '直播流有变化，正在重新连接…',
  refused: '无法观看这个直播',
  refusedMore: '链接可能已过期，请重新获取。',
  full: '观看人数已满',
  fullMore: '稍后会自动重试',
  unplayable: '当前浏览器无法播放这个直播',
  unplayableMore: '请换用 Chrome、Edge 或 Safari 等浏览器。',
  audioOnly: '纯音频',
  protocol: '协议',
  resolution: '分辨率',
  bitrate: '码率',
  behind: '落后直播',
  dropped: '丢帧',
}

/** The languages that the player speaks. */
export type Language = 'en' | 'zh'

/** Returns the first language of the list that the player speaks, or English. */
export function languageOf(wanted: readonly string[]): Language {
  for (const tag of wanted) {
    const [language] = tag.toLowerCase().split('-')
    if (language === 'zh' || language === 'en') return language
  }
  return 'en'
}

/** Returns the texts of a language. */
export function textOf(language: Language): Text {
  return language === 'zh' ? zh : en
}

/** Returns what a player says in a phase: a sentence and, if there is more to say, a second one. */
export function messageOf(t: Text, phase: Phase, reason: Reason | undefined): [string, string] {
  switch (phase) {
    case 'idle':
    case 'playing':
      return ['', '']
    case 'connecting':
      return [t.connecting, '']
    case 'stalled':
      return [t.stalled, '']
    case 'offline':
      return [t.offline, t.offlineMore]
    case 'retrying':
      return [reason === 'again' ? t.again : t.retrying, '']
    case 'failed':
      if (reason === 'refused') return [t.refused, t.refusedMore]
      if (reason === 'full') return [t.full, t.fullMore]
      return [t.unplayable, t.unplayableMore]
  }
}
