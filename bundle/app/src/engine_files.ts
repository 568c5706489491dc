// The engine's own files: fetched once, inflated, and started only if their SHA-256 is the one that
// this build was made with.

import type { EngineFile } from 'virtual:engines';

import { sha256 } from './check.ts';

const CACHE = 'pocketgpt-engine';

/** The engine's file is not the one that this app was built with. */
export class EngineDamaged extends Error {
  override name = 'EngineDamaged';
}

/** The verified bytes of one engine file; from the cache if it was here before. */
export async function engineFile(file: EngineFile): Promise<Uint8Array<ArrayBuffer>> {
  const url = new URL(file.file, document.baseURI).href;
  const cache = await caches.open(CACHE);
  const cached = await cache.match(url);
  if (cached) {
    const bytes = await checked(cached, file).catch(() => null);
    if (bytes) return bytes;
    await cache.delete(url);
  }
  const response = await fetch(url, { cache: 'no-cache' });
  if (!response.ok) throw new Error(`${file.file}: the server answers ${response.status}`);
  const bytes = await checked(response.clone(), file);
  await cache.put(url, response);
  // Those of an older build are of no more use.
  const keep = file.file.replace(/-[0-9a-f]+\.z$/, '');
  for (const { url: old } of await cache.keys()) {
    if (old !== url && old.includes(keep)) await cache.delete(old);
  }
  return bytes;
}

async function checked(response: Response, file: EngineFile): Promise<Uint8Array<ArrayBuffer>> {
  const bytes = await inflate(new Uint8Array(await response.arrayBuffer()), file.size);
  if ((await sha256(bytes)) !== file.sha256) {
    throw new EngineDamaged(`${file.file} is not the file that this app was built with`);
  }
  return bytes;
}

/** At most `limit` bytes, whatever a compressed file promises. */
async function inflate(
  bytes: Uint8Array<ArrayBuffer>,
  limit: number,
): Promise<Uint8Array<ArrayBuffer>> {
  const compressed = bytes[0] === 0x1f && bytes[1] === 0x8b;
  // Some hosts inflate on the way.
  if (!compressed) return bytes;
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('gzip'));
  const inflated = new Uint8Array(limit);
  let filled = 0;
  for await (const chunk of readAll(stream)) {
    if (filled + chunk.length > limit) throw new EngineDamaged('the engine is too large');
    inflated.set(chunk, filled);
    filled += chunk.length;
  }
  return inflated.subarray(0, filled);
}

/** Safari's streams cannot be iterated. */
async function* readAll(stream: ReadableStream<Uint8Array>) {
  const reader = stream.getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    yield value;
  }
}
