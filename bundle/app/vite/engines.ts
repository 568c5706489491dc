// The WebAssembly engines as files of this build: compressed, because a bundle travels, and with
// the SHA-256 of what comes out, because the app starts nothing that it has not checked.

import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { gzipSync } from 'node:zlib';
import type { Plugin } from 'vite';

const require = createRequire(import.meta.url);
const MODULE = 'virtual:engines';
const PACKAGES = {
  wasm: '@wllama/wllama/esm/wasm/wllama.wasm',
  compatWasm: '@wllama/wllama-compat/wasm/wllama.wasm',
  compatScript: '@wllama/wllama-compat/wasm/wllama.js',
};

/** Makes `virtual:engines`: for each file its path in the build, its size and its SHA-256. */
export function engines(): Plugin {
  let building = false;
  return {
    name: 'engines',
    configResolved(config) {
      building = config.command === 'build';
    },
    resolveId: (id) => (id === MODULE ? '\0' + MODULE : null),
    load(id) {
      if (id !== '\0' + MODULE) return null;
      const listed = Object.entries(PACKAGES).map(([key, path]) => {
        const bytes = readFileSync(locate(path));
        const sha256 = createHash('sha256').update(bytes).digest('hex');
        const file = `assets/${key}-${sha256.slice(0, 12)}.z`;
        if (building) {
          this.emitFile({ type: 'asset', fileName: file, source: gzipSync(bytes, { level: 9 }) });
        }
        return [key, { file, sha256, size: bytes.length }];
      });
      const { version } = JSON.parse(readFileSync(locate('@wllama/wllama/package.json'), 'utf8'));
      const engine = { version, ...Object.fromEntries(listed) };
      return `export default ${JSON.stringify(engine)};`;
    },
  };
}

/** A file of a package, also where the package's `exports` do not name it. */
function locate(path: string): string {
  const folders = require.resolve.paths(path) ?? [];
  for (const folder of folders) {
    try {
      readFileSync(`${folder}/${path}`, { flag: 'r' });
      return `${folder}/${path}`;
    } catch {
      // Not in this folder: the next one.
    }
  }
  throw new Error(`${path} is not installed: run npm ci`);
}
