// Reads the state of players. It runs inside the page.

// playerStates returns the state of each of window.players: its time and statistics, the minimum
// and maximum luminance of some points, and the clock that some pictures have, in sixteen columns
// of one bit each.
export function playerStates() {
  const luminance = (video, columns, rows) => {
    const canvas = document.createElement('canvas')
    canvas.width = columns
    canvas.height = rows
    const context = canvas.getContext('2d')
    context.drawImage(video, 0, 0, columns, rows)
    const { data } = context.getImageData(0, 0, columns, rows)
    const all = []
    for (let i = 0; i < data.length; i += 4) all.push(Math.max(data[i], data[i + 1], data[i + 2]))
    return all
  }
  return window.players.map(({ url, video, hls, fatal = [], errors = [], widths = [], over, ended }) => {
    const points = luminance(video, 8, 8)
    const now = Date.now()
    const columns = luminance(video, 16 * 5, 1).filter((_, x) => x % 5 === 2)
    return {
      url,
      time: video.currentTime,
      frames: video.getVideoPlaybackQuality().totalVideoFrames,
      dropped: video.getVideoPlaybackQuality().droppedVideoFrames,
      width: video.videoWidth,
      dark: Math.min(...points),
      bright: Math.max(...points),
      now,
      clock: columns.reduce((sum, l, bit) => sum + (l > 127 ? 2 ** bit : 0), 0),
      date: hls?.playingDate?.getTime() ?? 0,
      fatal,
      errors,
      widths,
      over: !!over,
      ended: !!ended,
      note: document.getElementById(video.id + '-note')?.textContent ?? '',
    }
  })
}
