// Asks before something is done that cannot be undone.

/** A question. */
export interface Question {
  title: string
  text: string
  action: string // the label of the button that does it
  danger?: boolean // something is lost
}

class Confirm {
  question = $state.raw<Question>()
  #answer: (yes: boolean) => void = () => { /* nothing is asked */ }

  /** Shows a question, and resolves to whether a person has agreed. */
  ask(question: Question): Promise<boolean> {
    this.#answer(false)
    this.question = question
    return new Promise((resolve) => {
      this.#answer = resolve
    })
  }

  answer(yes: boolean): void {
    this.question = undefined
    this.#answer(yes)
  }
}

export const confirm = new Confirm()
