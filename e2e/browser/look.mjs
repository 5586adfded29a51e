// What is to be seen of players. It runs inside the page.

// look returns of each of window.players where it is and what it shows: the least and the most light of a few
// points, and the clock that some pictures have, sixteen columns of which each is a bit.
export function look() {
  const light = (video, columns, rows) => {
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
    const few = light(video, 8, 8)
    const now = Date.now()
    const clock = light(video, 16 * 5, 1).filter((_, x) => x % 5 === 2)
    return {
      url,
      time: video.currentTime,
      frames: video.getVideoPlaybackQuality().totalVideoFrames,
      dropped: video.getVideoPlaybackQuality().droppedVideoFrames,
      width: video.videoWidth,
      dark: Math.min(...few),
      bright: Math.max(...few),
      now,
      clock: clock.reduce((sum, l, bit) => sum + (l > 127 ? 2 ** bit : 0), 0),
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
