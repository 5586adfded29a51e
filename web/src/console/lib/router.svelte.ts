// The page that is shown.
import { hashOf, parseHash } from './route.ts'

export { hashOf }

class Router {
  route = $state.raw(parseHash(location.hash))

  constructor() {
    addEventListener('hashchange', () => {
      this.route = parseHash(location.hash)
    })
  }

  /** Shows another page. */
  go(...path: readonly string[]): void {
    location.hash = hashOf(...path)
  }
}

export const router = new Router()
