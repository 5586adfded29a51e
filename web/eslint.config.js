import js from '@eslint/js'
import { defineConfig } from 'eslint/config'
import svelte from 'eslint-plugin-svelte'
import globals from 'globals'
import ts from 'typescript-eslint'

export default defineConfig(
  { ignores: ['dist', 'src/console/api/schema.ts'] },
  js.configs.recommended,
  ts.configs.strict,
  svelte.configs.recommended,
  { rules: { 'max-len': ['error', 120] } },
  {
    files: ['**/*.svelte', '**/*.svelte.ts'],
    languageOptions: { globals: globals.browser, parserOptions: { parser: ts.parser } },
    rules: {
      'no-undef': 'off', // TypeScript checks this
      'max-len': ['error', { code: 120, ignorePattern: "^    \\w+: 'M" }], // pictures,
      'svelte/no-at-html-tags': 'error', // what comes from outside is text
      'svelte/no-inline-styles': 'error', // the page's policy forbids them
      'svelte/prefer-svelte-reactivity': 'off', // what a page shows is $state.raw, and replaced as a whole
      'svelte/no-navigation-without-resolve': 'off', // it is for SvelteKit
    },
  },
)
