// The user of the console: what they may do, and where the server is reached.
import type { components } from '../api/schema.ts'

export type ServerInfo = components['schemas']['ServerInfoBody']
export type Address = components['schemas']['Address']
export type Role = ServerInfo['role']

const roles: readonly Role[] = ['read', 'operate', 'admin']

class Session {
  server = $state.raw<ServerInfo>()

  /** Reports whether the role of the session allows what needs another. */
  may(need: Role): boolean {
    return this.server !== undefined && roles.indexOf(this.server.role) >= roles.indexOf(need)
  }

  /** Whether a person has logged in, and can log out. */
  get loggedIn(): boolean {
    return this.server?.csrf_token !== undefined
  }

  /** The names of the apps that accept publishers, the main app first. */
  get apps(): string[] {
    return this.server?.apps?.map((a) => a.app) ?? []
  }

  /** Returns where encoders publish to an app: URLs that a stream key completes. */
  publish(app: string): Address[] {
    return this.server?.apps?.find((a) => a.app === app)?.publish ?? []
  }

  /** Returns where a stream is watched. */
  play(app: string, room: string): Address[] {
    const of = this.server?.apps?.find((a) => a.app === app)?.play ?? []
    return of.map(({ protocol, url }) => ({ protocol, url: url.replace('{room}', () => encodeURIComponent(room)) }))
  }

  /**
   * Returns the address of the player page of a stream that this page can load too: one over TLS if it is over TLS
   * itself. undefined if the app serves none.
   */
  page(app: string, room: string): string | undefined {
    const pages = this.play(app, room).filter((a) => a.protocol === 'page').map((a) => a.url)
    return pages.find((url) => url.startsWith(location.protocol)) ?? pages[0]
  }
}

export const session = new Session()
