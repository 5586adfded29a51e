// The pages of the console. Each is loaded when it is first shown.
import type { Component } from 'svelte'
import type { IconName } from './components/Icon.svelte'
import type { Role } from './lib/session.svelte.ts'
import type { common } from './text/common.ts'

/** The properties of every page: the segments of the address after the name of the page. */
export interface PageProps {
  path: readonly string[]
  query: URLSearchParams
}

type Loaded = Promise<{ default: Component<PageProps> | Component }>

/** A page of the menu. Its address is #/id, and those that begin so. */
export interface Page {
  id: keyof typeof common.en & IconName // names its text and its picture too
  role?: Role // those with less do not see it
  hidden?: true // it is not in the menu
  load: () => Loaded
  loadOne?: () => Loaded // the page of one entry: #/id/...
}

/** In the order of the menu; the first is shown at the start. */
export const pages: readonly Page[] = [
  {
    id: 'streams', load: () => import('./pages/Streams.svelte'),
    loadOne: () => import('./pages/StreamPage.svelte'), // #/streams/live/movie
  },
  { id: 'start', hidden: true, load: () => import('./pages/Start.svelte') },
  { id: 'rooms', load: () => import('./pages/Rooms.svelte') },
  { id: 'sessions', load: () => import('./pages/Sessions.svelte') },
  { id: 'recordings', load: () => import('./pages/Recordings.svelte') },
  { id: 'relays', load: () => import('./pages/Relays.svelte') },
  { id: 'keys', load: () => import('./pages/Keys.svelte') },
  { id: 'tokens', role: 'operate', load: () => import('./pages/Tokens.svelte') },
  { id: 'events', load: () => import('./pages/Events.svelte') },
  { id: 'settings', role: 'operate', load: () => import('./pages/Settings.svelte') },
  { id: 'server', load: () => import('./pages/Server.svelte') },
]
