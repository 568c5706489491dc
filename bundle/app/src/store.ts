// Files in the browser's origin-private file system: fragments, named by their content, and one
// record for each installed model. Several models share the fragments that they have in common.

import { asObject, asText, parseJson } from './check.ts';
import { parseBundle, parseManifest } from './bundle.ts';
import type { Bundle, Fragment, Variant } from './bundle.ts';
import type { WriteReply, WriteRequest } from './store_worker.ts';

/** The browser gives this origin no more room. */
export class StorageFull extends Error {
  override name = 'StorageFull';
}

/** A model whose fragments are all here. */
export interface Installed {
  /** SHA-256 of the GGUF. */
  id: string;
  bundle: Bundle;
  variant: Variant;
  fragments: Fragment[];
  /** Public key of the bundle's signature. */
  signer: string | null;
  source: InstalledSource;
}

/** What a record holds: the texts as they came, which are checked again when they are read. */
export interface InstalledSource {
  recipe: string;
  bundle: string;
  manifest: string;
  signer: string | null;
}

/** Where fragments are kept; the fetcher needs no more than this. */
export interface FragmentStore {
  /** The stored bytes, or null. */
  read(file: string): Promise<Blob | null>;
  /** Replaces `file`. Throws `StorageFull` when there is no room. */
  write(file: string, bytes: Uint8Array<ArrayBuffer>): Promise<void>;
}

/** The origin-private file system of this browser. */
export class Store implements FragmentStore {
  readonly #fragments: FileSystemDirectoryHandle;
  readonly #models: FileSystemDirectoryHandle;
  readonly #writer = new Writer();

  private constructor(fragments: FileSystemDirectoryHandle, models: FileSystemDirectoryHandle) {
    this.#fragments = fragments;
    this.#models = models;
  }

  /** Opens it. Throws where the browser has none, as in some private windows. */
  static async open(): Promise<Store> {
    const root = await navigator.storage.getDirectory();
    const folder = (name: string) => root.getDirectoryHandle(name, { create: true });
    return new Store(await folder('fragments'), await folder('models'));
  }

  async read(file: string): Promise<Blob | null> {
    try {
      return await (await this.#fragments.getFileHandle(file)).getFile();
    } catch (error) {
      if (isMissing(error)) return null;
      throw error;
    }
  }

  async write(file: string, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    await this.#writer.write('fragments', file, bytes);
  }

  /** Bytes of `fragments` that are here, by size alone. */
  async present(fragments: readonly Fragment[]): Promise<number> {
    const unique = [...new Map(fragments.map((fragment) => [fragment.file, fragment])).values()];
    const sizes = await Promise.all(
      unique.map(async ({ file, size }) => ((await this.read(file))?.size === size ? size : 0)),
    );
    return sizes.reduce((sum, size) => sum + size, 0);
  }

  /** Records that a model is complete. */
  async install(id: string, source: InstalledSource): Promise<void> {
    const bytes = new TextEncoder().encode(JSON.stringify(source));
    await this.#writer.write('models', `${id}.json`, bytes);
  }

  /** All complete models; a record that is damaged is no model. */
  async installed(): Promise<Installed[]> {
    const models: Installed[] = [];
    for await (const handle of this.#models.values()) {
      if (handle.kind !== 'file') continue;
      try {
        models.push(parseRecord(await (await handle.getFile()).text()));
      } catch (error) {
        console.warn(`${handle.name} is no record of a model`, error);
      }
    }
    return models.sort((a, b) => a.bundle.name.localeCompare(b.bundle.name));
  }

  /** Removes a model, and the fragments that neither another installed model nor `kept` has. */
  async remove(id: string, kept: Iterable<string> = []): Promise<void> {
    await this.#models.removeEntry(`${id}.json`).catch((error) => {
      if (!isMissing(error)) throw error;
    });
    const installed = await this.installed();
    const used = new Set(installed.flatMap(({ fragments }) => fragments.map(({ file }) => file)));
    for (const file of kept) used.add(file);
    for await (const name of this.#fragments.keys()) {
      if (!used.has(name)) await this.#fragments.removeEntry(name);
    }
  }
}

/** Reads and checks a record. Throws `Refused`, or an error, for one that is damaged. */
export function parseRecord(text: string): Installed {
  const json = asObject(parseJson(text, 'record'), 'record');
  const source: InstalledSource = {
    recipe: asText(json['recipe'], 'recipe'),
    bundle: asText(json['bundle'], 'bundle', Infinity),
    manifest: asText(json['manifest'], 'manifest', Infinity),
    signer: json['signer'] == null ? null : asText(json['signer'], 'signer', 64),
  };
  const bundle = parseBundle(source.bundle);
  const variant = bundle.variants.find(({ recipe }) => recipe === source.recipe);
  if (!variant) throw new Error(`no variant ${source.recipe}`);
  const fragments = parseManifest(source.manifest, variant, bundle);
  return { id: variant.sha256, bundle, variant, fragments, signer: source.signer, source };
}

/** Writes in a worker, because Safari offers writing to the file system only there. */
class Writer {
  #worker: Worker | null = null;
  #next = 0;
  readonly #waiting = new Map<number, (reply: WriteReply) => void>();

  async write(folder: string, file: string, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    const worker = (this.#worker ??= this.#start());
    const id = this.#next++;
    const reply = await new Promise<WriteReply>((resolve) => {
      this.#waiting.set(id, resolve);
      const request: WriteRequest = { id, folder, file, bytes };
      worker.postMessage(request);
    });
    if (!reply.error) return;
    if (/quota|space/i.test(`${reply.error} ${reply.message}`))
      throw new StorageFull(reply.message);
    throw new Error(`${file} cannot be stored: ${reply.message}`);
  }

  #start(): Worker {
    const worker = new Worker(new URL('./store_worker.ts', import.meta.url), { type: 'module' });
    const settle = (reply: WriteReply) => {
      this.#waiting.get(reply.id)?.(reply);
      this.#waiting.delete(reply.id);
    };
    worker.onmessage = (event: MessageEvent<WriteReply>) => settle(event.data);
    worker.onerror = (event) => {
      this.#worker = null;
      for (const id of [...this.#waiting.keys()]) {
        settle({ id, error: 'Error', message: event.message || 'the writer did not start' });
      }
    };
    return worker;
  }
}

function isMissing(error: unknown): boolean {
  return error instanceof DOMException && error.name === 'NotFoundError';
}
