import { defineConfig } from 'vite'

// Entries have stable names, which pages import. Chunks have a hash in their name, and may be cached for ever.
export default defineConfig({
  base: './', // chunks are found from the module, on pages of any origin

  build: {
    outDir: 'dist/files',
    emptyOutDir: true,
    target: 'es2022',
    modulePreload: false,
    rolldownOptions: {
      input: { player: 'src/player/index.ts', watch: 'src/watch/watch.ts' },
      preserveEntrySignatures: 'strict',
      output: { entryFileNames: '[name].js', chunkFileNames: 'chunks/[name]-[hash].js' },
    },
    chunkSizeWarningLimit: 1024, // hls.js, which is loaded when it is needed
  },
})
