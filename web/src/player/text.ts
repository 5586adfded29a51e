// What the player says, in each language.
import type { Reason, State } from './machine.ts'

const en = {
  language: 'English',
  player: 'Live video',
  play: 'Play',
  pause: 'Pause',
  mute: 'Mute',
  unmute: 'Unmute',
  volume: 'Volume',
  settings: 'Settings',
  pip: 'Picture-in-picture',
  fullscreen: 'Full screen',
  exitFullscreen: 'Exit full screen',
  live: 'LIVE',
  connecting: 'Connecting…',
  stalled: 'Buffering…',
  slow: 'The network is too slow for this stream.',
  interrupted: 'The stream is interrupted.',
  interruptedMore: 'It continues here by itself.',
  offline: 'The stream has not started yet.',
  offlineMore: 'It starts here by itself.',
  over: 'The stream has ended.',
  overMore: 'If it starts again, it plays here by itself.',
  retrying: 'The connection was lost. Connecting again…',
  again: 'The stream is changing. Connecting again…',
  tryAgain: 'Try again',
  private: 'This stream is private.',
  privateMore: 'Open it by the link that you were given.',
  expired: 'This link has expired.',
  expiredMore: 'Ask for a new one.',
  early: 'This link is not valid yet.',
  earlyMore: 'Try again later.',
  used: 'This link has already been used.',
  usedMore: 'It works once. Ask for a new one.',
  disconnected: 'You were disconnected by the operator.',
  refused: 'This link does not allow you to watch the stream.',
  refusedMore: 'Ask for a new one.',
  full: 'Too many people are watching.',
  fullMore: 'It starts here by itself when there is room.',
  unplayable: 'This browser cannot play the stream.',
  unplayableCodecs: 'This browser cannot play {codecs}, in which the stream is encoded.',
  unplayableMore: 'Try another browser, such as Chrome, Edge or Safari.',
  unsupported: 'The stream is not available by this protocol.',
  unsupportedMore: 'Choose another one in the settings.',
  audioOnly: 'Audio only',
  automatic: 'Automatic',
  statistics: 'Statistics',
  languages: 'Language',
  protocol: 'Protocol',
  codecs: 'Codecs',
  resolution: 'Resolution',
  frameRate: 'Frame rate',
  bitrate: 'Bitrate',
  behind: 'Behind live',
  buffered: 'Buffered',
  dropped: 'Dropped frames',
  byBrowser: 'HLS by the browser',
}

/** The texts of one language. */
export type Text = typeof en

const zh: Text = {
  language: '中文',
  player: '直播视频',
  play: '播放',
  pause: '暂停',
  mute: '静音',
  unmute: '打开声音',
  volume: '音量',
  settings: '设置',
  pip: '画中画',
  fullscreen: '全屏',
  exitFullscreen: '退出全屏',
  live: '直播',
  connecting: '正在连接…',
  stalled: '正在缓冲…',
  slow: '网速太慢，跟不上直播',
  interrupted: '直播中断了',
  interruptedMore: '恢复后会自动继续播放',
  offline: '直播还没有开始',
  offlineMore: '开播后会自动播放',
  over: '直播已结束',
  overMore: '再次开播时会自动播放',
  retrying: '连接中断，正在重新连接…',
  again: '直播流有变化，正在重新连接…',
  tryAgain: '重试',
  private: '这是私有直播',
  privateMore: '请通过收到的链接打开',
  expired: '链接已过期',
  expiredMore: '请重新获取链接',
  early: '链接尚未生效',
  earlyMore: '请稍后再试',
  used: '链接已被使用',
  usedMore: '该链接只能使用一次，请重新获取',
  disconnected: '管理员已断开你的连接',
  refused: '此链接无权观看这个直播',
  refusedMore: '请重新获取链接',
  full: '观看人数已满',
  fullMore: '有空位后会自动播放',
  unplayable: '当前浏览器无法播放这个直播',
  unplayableCodecs: '当前浏览器不支持直播使用的 {codecs} 编码',
  unplayableMore: '请换用 Chrome、Edge 或 Safari 等浏览器',
  unsupported: '这个直播不支持所选的协议',
  unsupportedMore: '请在设置里换一种协议',
  audioOnly: '纯音频',
  automatic: '自动',
  statistics: '统计信息',
  languages: '语言',
  protocol: '协议',
  codecs: '编码',
  resolution: '分辨率',
  frameRate: '帧率',
  bitrate: '码率',
  behind: '直播延迟',
  buffered: '已缓冲',
  dropped: '丢帧',
  byBrowser: '浏览器原生 HLS',
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

/**
 * Returns what a player says in a state: a sentence and, if there is more to say, a second one. slow says that it
 * stalls again and again.
 */
export function messageOf(t: Text, { phase, reason, detail = '', played }: State, slow = false): [string, string] {
  switch (phase) {
    case 'idle':
    case 'playing':
      return ['', '']
    case 'connecting':
      return [t.connecting, '']
    case 'stalled':
      return reason === 'offline' ? [t.interrupted, t.interruptedMore] : [t.stalled, slow ? t.slow : '']
    case 'offline':
      return played ? [t.over, t.overMore] : [t.offline, t.offlineMore]
    case 'retrying':
      return [reason === 'again' ? t.again : t.retrying, '']
    case 'failed':
      return failureOf(t, reason, detail)
  }
}

function failureOf(t: Text, reason: Reason | undefined, detail: string): [string, string] {
  if (reason === 'full') return [t.full, t.fullMore]
  if (reason === 'unsupported') return [t.unsupported, t.unsupportedMore]
  if (reason !== 'refused') {
    return [detail ? t.unplayableCodecs.replace('{codecs}', detail) : t.unplayable, t.unplayableMore]
  }
  switch (detail) { // the codes in docs/keys.md
    case 'token_missing':
      return [t.private, t.privateMore]
    case 'token_expired':
    case 'session_expired':
      return [t.expired, t.expiredMore]
    case 'token_not_yet_valid':
      return [t.early, t.earlyMore]
    case 'token_used':
      return [t.used, t.usedMore]
    case 'session_ended':
      return [t.disconnected, '']
    default:
      return [t.refused, t.refusedMore]
  }
}
