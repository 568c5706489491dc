// A small server of a bundle, whose answers a test can spoil: what a bad network and a bad host do.

import { createReadStream, statSync } from 'node:fs';
import { createServer } from 'node:http';
import { join, normalize } from 'node:path';
import { finished } from 'node:stream/promises';

const TYPES = {
  html: 'text/html; charset=utf-8',
  js: 'text/javascript',
  css: 'text/css',
  json: 'application/json',
  svg: 'image/svg+xml',
  png: 'image/png',
  webmanifest: 'application/manifest+json',
};
/** Bytes between two looks at the faults. */
const STEP = 64 << 10;

/**
 * Serves the files of `bundle`, and those of `app` under /app/. `isolate: false` is a static host
 * that cannot send the headers that threads need.
 */
export async function serve({ bundle, app, isolate = true }) {
  const faults = {
    /** By path: true sends the file with one bit changed. */
    damage: () => false,
    /** By path and first byte: a number cuts the connection after so many bytes. */
    cut: () => null,
    /** By path: milliseconds before each step. */
    delay: () => 0,
    /** By path: a status that is sent in place of the file, or null. */
    status: () => null,
    /** By path: a text that is sent in place of the file, or null. */
    replace: () => null,
  };
  /** What was asked for. */
  const requests = [];
  const sockets = new Set();

  const server = createServer((request, response) => {
    const path = decodeURIComponent(new URL(request.url, 'http://localhost').pathname);
    const start = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1] ?? 0);
    requests.push({ path, start });
    if (isolate) {
      response.setHeader('Cross-Origin-Opener-Policy', 'same-origin');
      response.setHeader('Cross-Origin-Embedder-Policy', 'require-corp');
      response.setHeader('Cross-Origin-Resource-Policy', 'same-origin');
    }
    answer(response, path, start).catch(() => response.destroy());
  });

  async function answer(response, path, start) {
    const file = locate(path, bundle, app);
    response.setHeader('Content-Type', TYPES[file?.split('.').pop()] ?? 'application/octet-stream');
    const status = faults.status(path);
    if (status !== null) return response.writeHead(status).end();
    const text = faults.replace(path);
    if (text !== null) return response.end(text);
    const size = file === null ? null : sizeOf(file);
    if (size === null) return response.writeHead(404).end();
    const range = start > 0 ? { 'Content-Range': `bytes ${start}-${size - 1}/${size}` } : {};
    response.writeHead(start > 0 ? 206 : 200, { 'Content-Length': size - start, ...range });
    const end = faults.cut(path, start);
    const damaged = faults.damage(path);
    let position = start;
    for await (const chunk of createReadStream(file, { start, highWaterMark: STEP })) {
      await new Promise((resolve) => setTimeout(resolve, faults.delay(path)));
      if (response.destroyed) return;
      if (damaged && position === start) chunk[0] ^= 1;
      if (end !== null && position + chunk.length > end) {
        // What is still on its way when a connection is reset never reaches the page.
        response.write(chunk.subarray(0, Math.max(0, end - position)), () =>
          setTimeout(() => response.destroy(), 300),
        );
        return;
      }
      position += chunk.length;
      response.write(chunk);
    }
    response.end();
    await finished(response);
  }

  server.on('connection', (socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${server.address().port}/app/`,
    faults,
    requests,
    /** From now on nobody answers. */
    async stop() {
      const closed = new Promise((resolve) => server.close(resolve));
      for (const socket of sockets) socket.destroy();
      await closed;
    },
  };
}

function locate(path, bundle, app) {
  const inside = normalize(path);
  if (inside.includes('..')) return null;
  if (inside === '/app/') return join(app, 'index.html');
  return inside.startsWith('/app/') ? join(app, inside.slice(5)) : join(bundle, inside);
}

function sizeOf(file) {
  try {
    const entry = statSync(file);
    return entry.isFile() ? entry.size : null;
  } catch {
    return null;
  }
}
