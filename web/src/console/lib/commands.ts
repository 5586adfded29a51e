// What a person types to publish and to embed a stream.

/** Returns a text as one word of a shell. */
export function quote(text: string): string {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`
}

/** Ways to publish, in the order in which they are shown. */
export const encoders = ['obs', 'ffmpeg', 'gstreamer', 'livego'] as const
export type Encoder = (typeof encoders)[number]

/** A command to type. */
export interface Command {
  source: 'picture' | 'file' // a test picture with a tone, or a file of the person
  text: string
}

/**
 * Returns the commands by which an encoder publishes to an address, which contains the key. Keyframes come every two
 * seconds. OBS has no command.
 */
export function commandsOf(encoder: Encoder, url: string): Command[] {
  const address = quote(url)
  switch (encoder) {
    case 'obs':
      return []
    case 'ffmpeg':
      return [
        {
          source: 'picture',
          text: 'ffmpeg -re -f lavfi -i testsrc2=size=1280x720:rate=30 \\\n' +
            '  -f lavfi -i sine=frequency=440:sample_rate=48000 \\\n' +
            '  -c:v libx264 -preset veryfast -tune zerolatency -pix_fmt yuv420p -b:v 2500k -g 60 \\\n' +
            `  -c:a aac -b:a 128k -f flv ${address}`,
        },
        {
          source: 'file',
          text: 'ffmpeg -re -stream_loop -1 -i film.mp4 \\\n' +
            '  -c:v libx264 -preset veryfast -pix_fmt yuv420p -g 60 \\\n' +
            `  -c:a aac -b:a 128k -f flv ${address}`,
        },
      ]
    case 'gstreamer':
      return [{
        source: 'picture',
        text: `gst-launch-1.0 flvmux name=mux streamable=true ! rtmp2sink location=${address} \\\n` +
          '  videotestsrc is-live=true ! video/x-raw,format=I420,width=1280,height=720,framerate=30/1 \\\n' +
          '  ! x264enc tune=zerolatency speed-preset=veryfast bitrate=2500 key-int-max=60 \\\n' +
          '    option-string=scenecut=0 ! h264parse ! queue ! mux.video \\\n' +
          '  audiotestsrc is-live=true ! audioconvert ! audio/x-raw,rate=48000,channels=2 \\\n' +
          '  ! avenc_aac ! aacparse ! queue ! mux.audio',
      }]
    case 'livego':
      return [{ source: 'file', text: `livego push --loop film.mp4 ${address}` }]
  }
}

/** Returns the address to publish to: that of the server, and the key. */
export function publishURL(server: string, key: string): string {
  return `${server.replace(/\/$/, '')}/${key}`
}

/** Returns HTML that shows the player page in another page. */
export function frameCode(page: string): string {
  return `<iframe src="${escapeAttribute(page)}" width="640" height="360"\n` +
    '  allow="autoplay; fullscreen; picture-in-picture"></iframe>'
}

/** Returns HTML that shows the player in another page. */
export function elementCode(page: string, token = ''): string {
  const player = new URL('/.livego/player.js', page).href
  const attribute = token && ` token="${escapeAttribute(token)}"`
  return `<script type="module" src="${escapeAttribute(player)}"></` + 'script>\n' +
    `<livego-player src="${escapeAttribute(page)}"${attribute} autoplay muted controls></livego-player>`
}

function escapeAttribute(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('"', '&quot;').replaceAll('<', '&lt;')
}
