// The models of this browser: what the bundle offers, what is on its way, what is here.

import { LIMITS, fragmentPath, parseBundle, parseManifest } from './bundle.ts';
import type { Bundle, Variant } from './bundle.ts';
import { demand, sha256 } from './check.ts';
import { freeStorage } from './device.ts';
import { FetchFailed, fetchFragments } from './fetcher.ts';
import type { FetchProblem, Progress } from './fetcher.ts';
import { Observable } from './observable.ts';
import { checkSignature, pin } from './signature.ts';
import type { Signature } from './signature.ts';
import { StorageFull } from './store.ts';
import type { Installed, Store } from './store.ts';

/** A bundle that can be fetched now. */
export interface Offer {
  bundle: Bundle;
  /** The text of `bundle.json`. */
  text: string;
  signature: Signature;
}

/** Why a download ended: the name of the sentence that says so, and what to add. */
export interface DownloadProblem {
  kind: FetchProblem | 'storageFull' | 'other';
  detail: string;
}

/** Everything that the list of models shows. */
export interface ModelsState {
  /** Null while nobody knows; `problem` says why there is none. */
  offer: Offer | null;
  offerProblem: { kind: 'unreachable' | 'refused'; detail: string } | null;
  installed: readonly Installed[];
  /** Bytes that are here of each variant offered, by recipe. */
  present: ReadonlyMap<string, number>;
  download: { recipe: string; progress: Progress } | null;
  downloadProblem: DownloadProblem | null;
  /** Bytes that may still be stored. */
  free: number | null;
}

/** Installs and removes. */
export class Models {
  readonly state = new Observable<ModelsState>({
    offer: null,
    offerProblem: null,
    installed: [],
    present: new Map(),
    download: null,
    downloadProblem: null,
    free: null,
  });
  readonly #store: Store;
  /** The bundle's folder. */
  readonly #address: string;
  #running: AbortController | null = null;
  /** Fragments of the download on its way, fetched or not. */
  #coming: readonly string[] = [];

  constructor(store: Store, address: string) {
    this.#store = store;
    this.#address = address;
  }

  /** Reads what is installed. */
  async refresh(): Promise<void> {
    const installed = await this.#store.installed();
    this.#set({ installed, free: await freeStorage() });
    await this.#count();
  }

  /** Asks the server what it offers; without a network there is no offer. */
  async findOffer(): Promise<void> {
    this.#set({ offerProblem: null });
    let text: string;
    let signature: string | null;
    try {
      text = await this.#text('bundle.json');
      signature = await this.#text('bundle.sig').catch((error) => {
        if (error instanceof Absent) return null;
        throw error;
      });
    } catch (error) {
      this.#set({ offerProblem: { kind: 'unreachable', detail: String(error) } });
      return;
    }
    try {
      const bytes = new TextEncoder().encode(text);
      const checked = await checkSignature(bytes, signature, this.#address, localStorage);
      this.#set({ offer: { bundle: parseBundle(text), text, signature: checked } });
      await this.#count();
    } catch (error) {
      this.#set({ offerProblem: { kind: 'refused', detail: String(error) } });
    }
  }

  /** From now on the offer's key is the one for this address. */
  trustNewKey(): void {
    const { offer } = this.state.value;
    if (offer?.signature.state !== 'changed' || offer.signature.key === null) return;
    const { key } = offer.signature;
    pin(this.#address, key, localStorage);
    this.#set({ offer: { ...offer, signature: { state: 'valid', key } } });
  }

  /** Fetches a variant; what is here of it already is not fetched again. Null if it did not work. */
  async install(variant: Variant): Promise<Installed | null> {
    const { offer } = this.state.value;
    if (!offer || this.#running || !isTrusted(offer.signature)) return null;
    const running = (this.#running = new AbortController());
    this.#set({ downloadProblem: null });
    try {
      // Otherwise the browser may drop the model when another site needs room. Firefox asks the
      // user; nothing waits for the answer.
      navigator.storage.persist?.().catch(() => false);
      await this.#install(variant, offer, running.signal);
    } catch (error) {
      if (!running.signal.aborted) this.#set({ downloadProblem: problemOf(error) });
    } finally {
      this.#running = null;
      this.#coming = [];
      this.#set({ download: null });
      await this.refresh();
    }
    return this.state.value.installed.find(({ id }) => id === variant.sha256) ?? null;
  }

  /** Ends the download; what came stays, and the next one goes on from there. */
  cancel(): void {
    this.#running?.abort();
  }

  /** Removes a model, or what came of one that is not complete. */
  async remove(id: string): Promise<void> {
    await this.#store.remove(id, this.#coming);
    await this.refresh();
  }

  /** The GGUF of an installed model; null if a part of it is gone. */
  open({ fragments }: Installed): Promise<Blob | null> {
    return this.#store.open(fragments);
  }

  async #install(variant: Variant, offer: Offer, signal: AbortSignal): Promise<void> {
    const { bundle } = offer;
    const manifest = await this.#text(variant.manifest, signal);
    const digest = await sha256(new TextEncoder().encode(manifest));
    demand(
      digest === bundle.files.get(variant.manifest)?.sha256,
      `${variant.manifest} is not the file that bundle.json lists`,
    );
    const fragments = parseManifest(manifest, variant, bundle);
    this.#coming = fragments.map(({ file }) => file);
    await fetchFragments({
      fragments,
      store: this.#store,
      url: (file) => this.#url(fragmentPath(file)),
      signal,
      onProgress: (progress) => this.#set({ download: { recipe: variant.recipe, progress } }),
    });
    demand(
      (await this.#store.open(fragments)) !== null,
      'a part of the model went missing while it was fetched; fetch it again',
    );
    const signer = offer.signature.state === 'valid' ? offer.signature.key : null;
    await this.#store.install(variant.sha256, {
      recipe: variant.recipe,
      bundle: offer.text,
      manifest,
      signer,
    });
  }

  /** How much of each variant is here. Manifests that cannot be read now count as nothing. */
  async #count(): Promise<void> {
    const { offer, installed } = this.state.value;
    const present = new Map<string, number>();
    for (const variant of offer?.bundle.variants ?? []) {
      if (installed.some(({ id }) => id === variant.sha256)) continue;
      const text = await this.#text(variant.manifest).catch(() => null);
      if (text === null || !offer) continue;
      try {
        const fragments = parseManifest(text, variant, offer.bundle);
        present.set(variant.recipe, await this.#store.present(fragments));
      } catch (error) {
        console.warn(`${variant.manifest} is refused`, error);
      }
    }
    this.#set({ present });
  }

  async #text(path: string, signal?: AbortSignal): Promise<string> {
    const options = { cache: 'no-cache', ...(signal ? { signal } : {}) } as const;
    const response = await fetch(this.#url(path), options);
    if (response.status === 404) throw new Absent(`${path} is not there`);
    if (!response.ok) throw new Error(`${path}: the server answers ${response.status}`);
    const length = Number(response.headers.get('Content-Length') ?? 0);
    demand(length <= LIMITS.jsonBytes, `${path} is larger than ${LIMITS.jsonBytes} bytes`);
    return response.text();
  }

  #url(path: string): string {
    return new URL(path, this.#address).href;
  }

  #set(change: Partial<ModelsState>): void {
    this.state.value = { ...this.state.value, ...change };
  }
}

/** Whether a bundle with this signature may be installed. */
export function isTrusted({ state }: Signature): boolean {
  return state === 'valid' || state === 'unsigned' || state === 'unchecked';
}

class Absent extends Error {}

function problemOf(error: unknown): DownloadProblem {
  const detail = error instanceof Error ? error.message : String(error);
  if (error instanceof FetchFailed) return { kind: error.problem, detail };
  if (error instanceof StorageFull) return { kind: 'storageFull', detail };
  // What `fetch` throws without a network.
  if (error instanceof TypeError) return { kind: 'connection', detail };
  return { kind: 'other', detail };
}
