// Whether the server answers.

class Connection {
  lost = $state(false)
}

export const connection = new Connection()
