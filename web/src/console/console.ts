// The console: the page of the operator.
import { mount } from 'svelte'
import { loadSession } from './api/session.ts'
import App from './App.svelte'
import './app.css'
import { showError } from './lib/toasts.svelte.ts'

const target = document.getElementById('console')
if (!target) throw new Error('the page has no element for the console')
try {
  await loadSession()
} catch (err) {
  showError(err)
}
mount(App, { target })
