// A small bundle as the packer writes it, and a store in memory.

import { createHash } from 'node:crypto';

import type { Fragment } from '../src/bundle.ts';
import type { FragmentStore } from '../src/store.ts';

export type Json = Record<string, any>;

const sha = (data: Uint8Array | string) => createHash('sha256').update(data).digest('hex');

/** Pieces of a pretended GGUF; the last one is the first one again. */
export const PIECES = ['first piece', 'the second', 'first piece'].map((text) =>
  new TextEncoder().encode(text),
);

/** As a manifest lists them. */
export const FRAGMENTS: Fragment[] = PIECES.map((bytes) => ({
  // The name is a BLAKE3 in truth; here any digest of the content will do.
  file: `${sha(bytes)}.dat`,
  size: bytes.length,
  sha256: sha(bytes),
}));

/** A fresh copy of `model/Q8_0.manifest.json`. */
export function manifestJson(): Json {
  let offset = 0;
  const whole = PIECES.flatMap((piece) => [...piece]);
  return {
    format: 'pocketgpt-fragments',
    version: 1,
    file: {
      name: 'a.gguf',
      size: whole.length,
      sha256: sha(new Uint8Array(whole)),
      blake3: sha('whole'),
    },
    fragments: FRAGMENTS.map(({ file, size, sha256 }, id) => {
      const fragment = { id, file, offset, size, sha256, blake3: file.replace('.dat', '') };
      offset += size;
      return fragment;
    }),
    tensors: [],
  };
}

/** A fresh copy of `bundle.json`. */
export function bundleJson(): Json {
  const { file } = manifestJson();
  const unique = [...new Map(FRAGMENTS.map((fragment) => [fragment.file, fragment])).values()];
  return {
    format: 'pocketgpt-bundle',
    version: 1,
    name: 'tiny',
    architecture: 'gpt2',
    context_length: 48,
    parameters: 20000,
    license: 'MIT',
    variants: [
      {
        recipe: 'Q8_0',
        manifest: 'model/Q8_0.manifest.json',
        size: file.size,
        sha256: file.sha256,
        blake3: file.blake3,
        bits_per_weight: 8.5,
        quality: {
          mean_kl: 0.001,
          top1_agreement: 0.98,
          perplexity: 21.5,
          reference_perplexity: null,
        },
        memory: { context: 48, weights: 21000, kv_cache: 300, compute: 200, total: 21500 },
      },
    ],
    generation: {
      temperature: 0.8,
      top_k: 40,
      top_p: 0.95,
      repetition_penalty: 1.1,
      max_new_tokens: 128,
      eos_token_ids: [0, 7],
    },
    special_tokens: ['<|im_end|>', '</s>'],
    provenance: { run_file: null, data_blake3: null, program_version: '0.1.0' },
    self_test: {
      prompt: 'a b c',
      prompt_tokens: [1, 2, 3],
      expected: [{ recipe: 'Q8_0', tokens: [4, 5], text: 'é' }],
    },
    files: [
      {
        path: 'model/Q8_0.manifest.json',
        size: 900,
        sha256: sha('manifest'),
        blake3: sha('manifest'),
      },
      ...unique.map(({ file: name, size, sha256 }) => ({
        path: `model/${name}`,
        size,
        sha256,
        blake3: name.replace('.dat', ''),
      })),
    ],
  };
}

/** Keeps fragments in memory. */
export class MemoryStore implements FragmentStore {
  readonly files = new Map<string, Uint8Array<ArrayBuffer>>();

  async read(file: string): Promise<Blob | null> {
    const bytes = this.files.get(file);
    return bytes ? new Blob([bytes]) : null;
  }

  async write(file: string, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    this.files.set(file, bytes.slice());
  }
}
