import { defineConfig } from 'vitest/config';

import { engines } from './vite/engines.ts';
import { precache } from './vite/precache.ts';

export default defineConfig({
  // Relative, because a bundle may lie in any folder of any host.
  base: './',
  plugins: [engines(), precache()],
  build: {
    target: 'es2022',
    // No data: URLs for assets and no polyfill: both would need a wider Content-Security-Policy.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    // wllama's worker code is one string of 380 kB.
    chunkSizeWarningLimit: 700,
    rollupOptions: {
      input: { index: 'index.html', sw: 'src/sw.ts' },
      output: {
        // The service worker's name may not change: browsers look for a new one under the old name.
        entryFileNames: ({ name }) => (name === 'sw' ? 'sw.js' : 'assets/[name]-[hash].js'),
      },
    },
  },
  worker: { format: 'es' },
  test: { include: ['tests/**/*.test.ts'], environment: 'node' },
});
