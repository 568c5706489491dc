// Tells the service worker which files this build has, so that a second start needs no network.

import { createHash } from 'node:crypto';
import { readFileSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Plugin } from 'vite';

/** Bytes that the whole app may have beside the weights. */
const MAX_BYTES = 10_000_000;
const PLACEHOLDER = '__PRECACHE__';

/** Replaces the placeholder in `sw.js`, and refuses a build that has become too large. */
export function precache(): Plugin {
  let folder = '';
  return {
    name: 'precache',
    apply: 'build',
    configResolved(config) {
      folder = config.build.outDir;
    },
    closeBundle() {
      const files = list(folder).filter((file) => file !== 'sw.js');
      const total = files.reduce((sum, file) => sum + statSync(join(folder, file)).size, 0);
      if (total > MAX_BYTES) throw new Error(`the app has ${total} bytes: at most ${MAX_BYTES}`);
      // The engines are kept by whoever loads them: most devices need only one.
      const shell = files.filter((file) => !file.endsWith('.z'));
      const hash = createHash('sha256');
      for (const file of shell) hash.update(file).update(readFileSync(join(folder, file)));
      const integrity = (file: string) =>
        `sha256-${createHash('sha256')
          .update(readFileSync(join(folder, file)))
          .digest('base64')}`;
      const value = JSON.stringify({
        version: hash.digest('hex').slice(0, 16),
        files: Object.fromEntries(shell.map((file) => [file, integrity(file)])),
      });
      const path = join(folder, 'sw.js');
      const script = readFileSync(path, 'utf8');
      if (!script.includes(PLACEHOLDER))
        throw new Error('sw.js has no place for the list of files');
      writeFileSync(path, script.replace(PLACEHOLDER, value));
      console.log(`app: ${files.length + 1} files, ${(total / 1e6).toFixed(2)} MB`);
    },
  };
}

function list(folder: string, prefix = ''): string[] {
  return readdirSync(folder, { withFileTypes: true })
    .flatMap((entry) => {
      const path = prefix + entry.name;
      return entry.isDirectory() ? list(join(folder, entry.name), `${path}/`) : [path];
    })
    .sort();
}
