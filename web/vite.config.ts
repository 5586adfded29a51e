import { svelte } from '@sveltejs/vite-plugin-svelte'
import { defineConfig } from 'vite'

// Entries have stable names, which pages import. Chunks have a hash in their name, and may be cached for a year.
export default defineConfig({
  base: './', // chunks are found from the module, on pages of any origin
  plugins: [svelte()],

  build: {
    outDir: 'dist/files',
    emptyOutDir: true,
    target: 'es2022',
    cssTarget: ['chrome123', 'firefox120', 'safari17.5'], // which have light-dark()
    cssCodeSplit: false, // the console alone has style sheets: one file
    modulePreload: false,
    rolldownOptions: {
      checks: { pluginTimings: false }, // on a busy machine it would print them
      input: {
        player: 'src/player/index.ts',
        watch: 'src/watch/watch.ts',
        console: 'src/console/console.ts',
        // A page that was open during an upgrade of the server can still load these.
        'engines/ws': 'src/player/ws.ts',
        'engines/hls': 'src/player/hls.ts',
        'engines/native': 'src/player/native.ts',
      },
      preserveEntrySignatures: 'strict',
      output: {
        entryFileNames: '[name].js', chunkFileNames: 'chunks/[name]-[hash].js', assetFileNames: 'console[extname]',
        // What most pages of the console share is one file, without what the player uses too.
        codeSplitting: { groups: [
          { name: 'preload', test: /preload-helper/, priority: 1 },
          { name: 'console', test: /src\/console\//, minShareCount: 4 },
        ] },
      },
    },
    chunkSizeWarningLimit: 1024, // hls.js, which is loaded when it is needed
  },
})
