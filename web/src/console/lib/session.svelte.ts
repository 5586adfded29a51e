// Who uses the console, what they may do, and where the server is reached.

/** The roles of the operator's HTTP, from the least. */
const roles = ['read', 'operate', 'admin'] as const
export type Role = (typeof roles)[number]

/** What GET /api/v1/session answers. */
export interface SessionInfo {
  role: Role
  csrf?: string // of a browser that has logged in
  version: string
  tokens: boolean // the server can make tokens
  apps: AppInfo[]
  listeners: Listeners
}

/** An app of the server, and where its streams are watched: base addresses, '' or absent for what it does not serve. */
export interface AppInfo {
  name: string
  flv: boolean
  hls: boolean
}

/** Base addresses as this browser reaches them, such as http://localhost:7001. */
export interface Listeners {
  rtmp?: string
  rtmps?: string
  flv?: string
  hls?: string
  https?: string
}

class Session {
  role = $state<Role>('read')
  version = $state('')
  tokens = $state(false)
  apps = $state.raw<readonly AppInfo[]>([])
  listeners = $state.raw<Listeners>({})
  csrf = '' // for client.ts
  loggedIn = $state(false)

  set(info: SessionInfo): void {
    this.role = info.role
    this.version = info.version
    this.tokens = info.tokens
    this.apps = info.apps
    this.listeners = info.listeners
    this.csrf = info.csrf ?? ''
    this.loggedIn = this.csrf !== ''
  }

  /** Reports whether the role allows what needs another. */
  may(need: Role): boolean {
    return roles.indexOf(this.role) >= roles.indexOf(need)
  }
}

export const session = new Session()
