// Models as they lie in this browser: every piece is hashed before the engine gets it. A device that
// loses a bit, or a page of the same origin that writes one, must not change what the model says.

import { sha256 } from './check.ts';
import type { Fragment } from './bundle.ts';
import type { FragmentStore } from './store.ts';

/** Pieces that are read and hashed at a time. */
const PARALLEL = 4;
/** Bytes of pieces that may be in memory at a time; one piece always may. */
const MEMORY = 64 << 20;

/** What was found. */
export interface Opened {
  /** The whole GGUF, which is read from disk piece by piece; null if a piece is not sound. */
  blob: Blob | null;
  /** Pieces that are missing or not as they were packed. */
  unsound: Fragment[];
}

/** Verifies all pieces and puts them together. */
export async function openStored(
  fragments: readonly Fragment[],
  store: FragmentStore,
): Promise<Opened> {
  const unique = [...new Map(fragments.map((one) => [one.file, one])).values()];
  const largest = unique.reduce((most, { size }) => Math.max(most, size), 1);
  const parallel = Math.min(PARALLEL, Math.max(1, Math.floor(MEMORY / largest)));
  const found = new Map<string, Blob>();
  const queue = unique.values();
  const work = async () => {
    for (const fragment of queue) {
      const blob = await readSound(fragment, store);
      if (blob) found.set(fragment.file, blob);
    }
  };
  await Promise.all(Array.from({ length: parallel }, work));
  const unsound = unique.filter(({ file }) => !found.has(file));
  if (unsound.length > 0) return { blob: null, unsound };
  // A file that is written after this can no longer be read through its blob: browsers hold it
  // against the state in which it was opened.
  return { blob: new Blob(fragments.map(({ file }) => found.get(file)!)), unsound };
}

/** A piece as it was packed, or null. */
export async function readSound(
  { file, size, sha256: digest }: Fragment,
  store: FragmentStore,
): Promise<Blob | null> {
  const blob = await store.read(file);
  if (blob?.size !== size) return null;
  try {
    const found = await sha256(new Uint8Array(await blob.arrayBuffer()));
    return found === digest ? blob : null;
  } catch (error) {
    // What a browser says of a file that changes, or of a disk that fails.
    if (error instanceof DOMException && error.name === 'NotReadableError') return null;
    throw error;
  }
}
