// Why the API refuses requests, and what problems streams have, in Chinese. See lib/reasons.svelte.ts.
import type { components, operations } from '../api/schema.ts'

type Responses = { [O in keyof operations]: keyof operations[O]['responses'] }[keyof operations]
type Status = Exclude<Responses, 200 | 201 | 204 | 206>

export const statuses: Record<Status, string> = {
  400: '请求无效',
  401: '需要登录，或凭据无效',
  403: '没有权限',
  404: '不存在',
  409: '与现有内容冲突',
  413: '请求过大',
  415: '不支持的请求格式',
  416: '超出文件范围',
  429: '已达到上限，请稍后再试',
  500: '服务器内部错误',
  503: '服务暂时不可用',
}

export const codes: Record<NonNullable<components['schemas']['Event']['code']>, string> = {
  token_missing: '没有令牌',
  token_malformed: '令牌格式错误',
  token_invalid: '令牌无效',
  token_expired: '令牌已过期',
  token_not_yet_valid: '令牌尚未生效',
  token_used: '一次性令牌已用过',
  token_wrong_stream: '令牌用于其他流',
  token_wrong_action: '令牌不能用于此操作',
  token_wrong_address: '令牌绑定了其他地址',
  token_revoked: '令牌已作废',
  token_viewer_limit: '令牌的观众数已达上限',
  session_missing: '没有会话',
  session_invalid: '会话无效',
  session_expired: '会话已到期',
  session_ended: '会话已被管理员结束',
  session_wrong_address: '会话绑定了其他地址',
  address_limit: '同一地址的会话过多',
}

export const problems: Record<components['schemas']['Finding']['code'], string> = {
  no_configuration: '缺少解码参数，无法播放',
  unusable_track: '轨道无法播放',
  no_video: '没有视频',
  no_audio: '没有音频',
  frozen_picture: '画面静止',
  silent_audio: '音频静音',
  keyframe_interval: '关键帧间隔过长',
  variable_frame_rate: '帧率不稳定',
  b_frames: 'B 帧过多',
  bitrate_peaks: '码率波动过大',
  pixel_format: '像素格式兼容性差',
  sample_rate: '采样率过高',
  video_change: '视频格式中途改变',
  audio_change: '音频格式中途改变',
  timestamps_unreliable: '时间戳不可靠',
  timestamp_jumps: '时间戳跳变',
  audio_drift: '音频时间戳漂移',
  audio_gaps: '音频不连续',
  audio_skew: '音视频到达时间相差过大',
  too_slow: '推流速度过慢',
  too_fast: '推流速度过快',
  clock_drift: '编码器时钟漂移',
  unstable_uplink: '上行网络不稳定',
  damaged_frames: '有损坏的帧',
  slow_viewers: '部分观众跟不上',
  playback_stalls: '部分观众播放卡顿',
}
