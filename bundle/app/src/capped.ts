// Answers of a server that are read whole: no more bytes than a limit, whatever it says of them.

import { demand } from './check.ts';

/**
 * The body of an answer. Throws `Refused` as soon as it is larger than `limit` bytes, which
 * `Content-Length` may not say, and reads no further.
 */
export async function readCapped(
  response: Response,
  limit: number,
  what: string,
): Promise<Uint8Array<ArrayBuffer>> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  const reader = response.body?.getReader();
  try {
    const stated = Number(response.headers.get('Content-Length') ?? 0);
    demand(!(stated > limit), `${what} is larger than ${limit} bytes`);
    for (;;) {
      const { done, value } = (await reader?.read()) ?? { done: true };
      if (done || !value) break;
      size += value.length;
      demand(size <= limit, `${what} is larger than ${limit} bytes`);
      chunks.push(value);
    }
  } finally {
    await reader?.cancel().catch(() => {});
  }
  const bytes = new Uint8Array(size);
  let at = 0;
  for (const chunk of chunks) {
    bytes.set(chunk, at);
    at += chunk.length;
  }
  return bytes;
}

/**
 * The text of bytes in UTF-8, as they are: a byte-order mark stays, and what is not UTF-8 is refused
 * in place of being replaced. The commands read the same bytes the same way.
 */
export function decodeText(bytes: Uint8Array, what: string): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    demand(false, `${what} is not UTF-8`);
  }
}
