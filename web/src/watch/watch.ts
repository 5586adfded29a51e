// The player page at /app/room.
import '../player/index.ts'
import { commandOf, embedderOf } from './embed.ts'
import { parametersOf } from './parameters.ts'

const embedder = window.parent === window ? '' : embedderOf([...(location.ancestorOrigins ?? [])], document.referrer)
const { src, room, attributes } = parametersOf(location.href, embedder)
document.title = room

const player = document.createElement('livego-player')
for (const [name, value] of Object.entries({ src, ...attributes })) player.setAttribute(name, value)

const setLanguage = () => (document.documentElement.lang = player.language)
player.addEventListener('languagechange', setLanguage)

if (embedder) {
  const send = (event: string, detail: object) => window.parent.postMessage({ livego: 1, event, ...detail }, embedder)
  const sendState = () => send('state', player.state)
  const sendVolume = () => send('volume', { volume: player.volume, muted: player.muted })
  player.addEventListener('statechange', sendState)
  player.addEventListener('volumechange', sendVolume)
  window.addEventListener('message', ({ source, origin, data }) => {
    if (source !== window.parent || origin !== embedder) return
    const command = commandOf(data)
    switch (command?.command) {
      case 'play':
        return player.play()
      case 'pause':
        return player.pause()
      case 'mute':
      case 'unmute':
        player.muted = command.command === 'mute'
        return
      case 'volume':
        player.volume = command.value
        return
      case 'stats':
        return send('stats', player.stats)
      case 'state':
        sendState()
        sendVolume()
    }
  })
}

document.body.replaceChildren(player)
setLanguage()
// The keys of the player work before a person has focused it.
document.body.addEventListener('keydown', (e) => {
  if (e.target === document.body && !player.dispatchEvent(new KeyboardEvent(e.type, e))) e.preventDefault()
})
