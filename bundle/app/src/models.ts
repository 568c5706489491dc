// The models of this browser: what the bundle offers, what is on its way, what is here.

import { LIMITS, fragmentPath, parseBundle, parseManifest } from './bundle.ts';
import type { Bundle, Fragment, Variant } from './bundle.ts';
import { decodeText, readCapped } from './capped.ts';
import { Refused, demand, sha256 } from './check.ts';
import { freeStorage } from './device.ts';
import { FetchFailed, fetchFragments } from './fetcher.ts';
import type { FetchProblem, Progress } from './fetcher.ts';
import { Observable } from './observable.ts';
import { SIGNATURE_BYTES } from './signature.ts';
import { StorageFull } from './store.ts';
import type { FragmentStore, Installed, InstalledSource } from './store.ts';
import { openStored } from './stored.ts';
import { Trust } from './trust.ts';
import type { Memory, Signature } from './trust.ts';

/** The script that keeps the app; it holds the hashes of all other files of the app. */
const APP_SCRIPT = 'app/sw.js';
/** Far more bytes than it has. */
const APP_SCRIPT_BYTES = 1 << 20;

/** A bundle that can be fetched now. */
export interface Offer {
  bundle: Bundle;
  /** The text of `bundle.json`. */
  text: string;
  signature: Signature;
  /** Why it should not be installed though the signature is in order; null where nothing is wrong. */
  stale: Stale | null;
}

/** A release below the one that is known here, or a bundle whose last day is past. */
export type Stale = { kind: 'older'; newest: number } | { kind: 'expired'; day: string };

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
  /** The host serves another web chat than the signed bundle lists. */
  appChanged: boolean;
  installed: readonly Installed[];
  /** Bytes that are here of each variant offered, by recipe. */
  present: ReadonlyMap<string, number>;
  download: { recipe: string; progress: Progress } | null;
  downloadProblem: DownloadProblem | null;
  /** Bytes that may still be stored. */
  free: number | null;
}

/** Pieces of an installed model are gone or damaged, and could not be fetched again. */
export class PiecesGone extends Error {
  override name = 'PiecesGone';
}

/** What of the store is needed here. */
export interface ModelStore extends FragmentStore {
  present(fragments: readonly Fragment[]): Promise<number>;
  install(id: string, source: InstalledSource): Promise<void>;
  installed(): Promise<Installed[]>;
  remove(id: string, kept?: Iterable<string>): Promise<void>;
}

/** Installs and removes. */
export class Models {
  readonly state = new Observable<ModelsState>({
    offer: null,
    offerProblem: null,
    appChanged: false,
    installed: [],
    present: new Map(),
    download: null,
    downloadProblem: null,
    free: null,
  });
  readonly #store: ModelStore;
  readonly #memory: Memory;
  readonly #trust: Trust;
  /** The bundle's folder. */
  readonly #address: string;
  #running: AbortController | null = null;
  /** Fragments of the download on its way, fetched or not. */
  #coming: readonly string[] = [];

  constructor(store: ModelStore, address: string, memory: Memory) {
    this.#store = store;
    this.#address = address;
    this.#memory = memory;
    this.#trust = new Trust(memory);
  }

  /** Whether the download of a variant was begun and not ended; pieces of it may be here without. */
  started({ sha256 }: Variant): boolean {
    return this.#memory.getItem(startedKey(sha256)) !== null;
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
    let bytes: Uint8Array<ArrayBuffer>;
    let signature: Uint8Array | null;
    try {
      bytes = await this.#bytes('bundle.json', LIMITS.jsonBytes);
      signature = await this.#bytes('bundle.sig', SIGNATURE_BYTES).catch((error) => {
        if (error instanceof Absent) return null;
        throw error;
      });
    } catch (error) {
      const kind = error instanceof Refused ? 'refused' : 'unreachable';
      this.#set({ offerProblem: { kind, detail: String(error) } });
      return;
    }
    try {
      const text = decodeText(bytes, 'bundle.json');
      const bundle = parseBundle(text);
      const checked = await this.#judge(bytes, signature);
      this.#set({
        offer: { bundle, text, signature: checked, stale: this.#stale(bundle, checked) },
      });
      await this.#checkHost();
      await this.#count();
    } catch (error) {
      this.#set({ offerProblem: { kind: 'refused', detail: String(error) } });
    }
  }

  /** From now on the offer's key, or none, is the one for this address. */
  async acceptKey(): Promise<void> {
    const { offer } = this.state.value;
    if (offer?.signature.state !== 'changed') return;
    this.#trust.accept(this.#address, offer.signature.key);
    await this.findOffer();
  }

  /** Remembers that the user wants nothing by the offer's key, or nothing unsigned. */
  async refuseKey(): Promise<void> {
    const { offer } = this.state.value;
    if (offer?.signature.state !== 'changed') return;
    this.#trust.refuse(this.#address, offer.signature.key);
    await this.findOffer();
  }

  /** Lets the user decide again. */
  async reconsiderKey(): Promise<void> {
    this.#trust.reconsider(this.#address);
    await this.findOffer();
  }

  /** The offer may be installed though it is older than what is known here, or expired. */
  acceptStale(): void {
    const { offer } = this.state.value;
    if (offer) this.#set({ offer: { ...offer, stale: null } });
  }

  /** Whether `key` said that nothing it signed counts any more. */
  isRevoked(key: string): boolean {
    return this.#trust.isRevoked(key);
  }

  /** Fetches a variant; what is here of it already is not fetched again. Null if it did not work. */
  async install(variant: Variant): Promise<Installed | null> {
    const { offer } = this.state.value;
    if (!offer || this.#running || !isInstallable(offer)) return null;
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
    this.#memory.removeItem(startedKey(id));
    await this.refresh();
  }

  /**
   * The GGUF of an installed model, every piece of it verified. What is damaged or gone is fetched
   * again; throws `PiecesGone`, which names it, where that does not work.
   */
  async open({ fragments }: Installed): Promise<Blob> {
    const { blob, unsound } = await openStored(fragments, this.#store);
    if (blob) return blob;
    const names = unsound.map(({ file }) => file).join(', ');
    console.warn(`damaged or gone on this device: ${names}`);
    try {
      await fetchFragments({
        fragments: unsound,
        store: this.#store,
        url: (file) => this.#url(fragmentPath(file)),
        signal: new AbortController().signal,
        onProgress: () => {},
      });
    } catch (error) {
      throw new PiecesGone(`${names} (${problemOf(error).detail})`);
    }
    const again = await openStored(fragments, this.#store);
    if (again.blob) return again.blob;
    throw new PiecesGone(again.unsound.map(({ file }) => file).join(', '));
  }

  /** What cannot be read as text is no signature of anything. */
  async #judge(bundle: Uint8Array, signature: Uint8Array | null): Promise<Signature> {
    let text: string | null;
    try {
      text = signature && decodeText(signature, 'bundle.sig');
    } catch (error) {
      return { state: 'invalid', detail: String(error) };
    }
    return this.#trust.judge(bundle, text, this.#address);
  }

  #stale({ name, release, expires }: Bundle, signature: Signature): Stale | null {
    const newest = signature.state === 'valid' ? this.#trust.newest(signature.key, name) : 0;
    if ((release ?? 0) < newest) return { kind: 'older', newest };
    const today = new Date().toISOString().slice(0, 10);
    return expires !== null && expires < today ? { kind: 'expired', day: expires } : null;
  }

  /**
   * Holds the app that the host serves now against the signed list. The page that does so came from
   * the same host, perhaps earlier: this finds mistakes and hosts that changed since, no more.
   */
  async #checkHost(): Promise<void> {
    const { offer } = this.state.value;
    const listed = offer?.signature.state === 'valid' && offer.bundle.files.get(APP_SCRIPT);
    let appChanged = false;
    if (listed) {
      const bytes = await this.#bytes(APP_SCRIPT, APP_SCRIPT_BYTES).catch(() => null);
      appChanged = bytes !== null && (await sha256(bytes)) !== listed.sha256;
    }
    this.#set({ appChanged });
  }

  async #install(variant: Variant, offer: Offer, signal: AbortSignal): Promise<void> {
    const { bundle } = offer;
    const bytes = await this.#bytes(variant.manifest, LIMITS.jsonBytes, signal);
    demand(
      (await sha256(bytes)) === bundle.files.get(variant.manifest)?.sha256,
      `${variant.manifest} is not the file that bundle.json lists`,
    );
    const manifest = decodeText(bytes, variant.manifest);
    const fragments = parseManifest(manifest, variant, bundle);
    this.#coming = fragments.map(({ file }) => file);
    this.#memory.setItem(startedKey(variant.sha256), '1');
    await fetchFragments({
      fragments,
      store: this.#store,
      url: (file) => this.#url(fragmentPath(file)),
      signal,
      onProgress: (progress) => this.#set({ download: { recipe: variant.recipe, progress } }),
    });
    demand(
      (await this.#store.present(fragments)) === sizeOf(fragments),
      'a part of the model went missing while it was fetched; fetch it again',
    );
    const signer = offer.signature.state === 'valid' ? offer.signature.key : null;
    await this.#store.install(variant.sha256, {
      recipe: variant.recipe,
      bundle: offer.text,
      manifest,
      signer,
    });
    this.#memory.removeItem(startedKey(variant.sha256));
    if (signer !== null) this.#trust.installed(signer, bundle.name, bundle.release ?? 0);
  }

  /** How much of each variant is here. Manifests that cannot be read now count as nothing. */
  async #count(): Promise<void> {
    const { offer, installed } = this.state.value;
    const present = new Map<string, number>();
    for (const variant of offer?.bundle.variants ?? []) {
      if (installed.some(({ id }) => id === variant.sha256)) continue;
      const bytes = await this.#bytes(variant.manifest, LIMITS.jsonBytes).catch(() => null);
      if (bytes === null || !offer) continue;
      try {
        const text = decodeText(bytes, variant.manifest);
        const fragments = parseManifest(text, variant, offer.bundle);
        present.set(variant.recipe, await this.#store.present(fragments));
      } catch (error) {
        console.warn(`${variant.manifest} is refused`, error);
      }
    }
    this.#set({ present });
  }

  async #bytes(
    path: string,
    limit: number,
    signal?: AbortSignal,
  ): Promise<Uint8Array<ArrayBuffer>> {
    const options = { cache: 'no-cache', ...(signal ? { signal } : {}) } as const;
    const response = await fetch(this.#url(path), options);
    if (response.status === 404) throw new Absent(`${path} is not there`);
    if (!response.ok) throw new Error(`${path}: the server answers ${response.status}`);
    return readCapped(response, limit, path);
  }

  #url(path: string): string {
    return new URL(path, this.#address).href;
  }

  #set(change: Partial<ModelsState>): void {
    this.state.value = { ...this.state.value, ...change };
  }
}

/** Whether an offer may be installed: by nobody or by whom is known here, and not stale. */
export function isInstallable({ signature, stale }: Offer): boolean {
  const isTrusted = signature.state === 'valid' || signature.state === 'unsigned';
  return isTrusted && stale === null;
}

/** Bytes of all files that the fragments lie in. */
function sizeOf(fragments: readonly Fragment[]): number {
  const sizes = new Map(fragments.map(({ file, size }) => [file, size]));
  return [...sizes.values()].reduce((sum, size) => sum + size, 0);
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

function startedKey(sha256: string): string {
  return `download-${sha256}`;
}
